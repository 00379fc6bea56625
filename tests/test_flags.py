"""The declaration of a flag: what the parser, --help and the checks make of it, and the flags of every script."""

import importlib
import re
import sys
from argparse import ArgumentTypeError
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
from assertions import refusal
from pages import SCRIPTS, parser_of
from scripts import ROOT

import main
from guided_diffusion.script.errors import UserError
from guided_diffusion.script.flags import (
    MANY,
    Flag,
    FlagParser,
    check_flags,
    group_flags,
    parse_bool_or_auto,
    parse_numbers,
    str2bool,
    with_defaults,
)

TOOLS = sorted(
    f"{folder}.{path.stem}"
    for folder in ("demo", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "FlagParser" in path.read_text()
)
WHOLE_NUMBERS = ("batch_size", "start_step", "seed", "image_size", "num_workers", "lr_anneal_steps", "columns")


def parse(flags, *words):
    return FlagParser("A script.", flags).parse_args(words)


@cache
def all_parsers():
    """(name, parser) of the root scripts, the demos and the benchmarks."""
    tools = [(tool, importlib.import_module(tool).create_argparser()) for tool in TOOLS]
    return [(script, parser_of(script)) for script in SCRIPTS] + tools


# -- kinds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [(t, True) for t in ("True", "yes", "t", "Y", "1")]
    + [(t, False) for t in ("False", "NO", "f", "n", "0")]
    + [(True, True), (False, False)],
)
def test_truth_has_many_spellings(text, value):
    assert str2bool(text) is value
    assert parse_bool_or_auto(text, "compile") is value


@pytest.mark.parametrize("text", ["maybe", "", "2", "None"])
def test_what_is_neither_true_nor_false_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="neither True nor False"):
        str2bool(text)


@pytest.mark.parametrize(
    "default, word, value",
    [(False, "True", True), (8, "12", 12), (0.5, "1e-3", 1e-3), ("16,8", "32", "32"), (None, "a.pt", "a.pt")],
)
@pytest.mark.parametrize("spelling", ["--some_flag", "--some-flag"])
def test_a_flag_has_the_type_of_its_default_and_two_spellings(default, word, value, spelling):
    flags = {"some_flag": Flag(default, "what it does")}
    found = parse(flags, spelling, word).some_flag
    assert found == value and type(found) is type(value)
    assert parse(flags).some_flag == default


@pytest.mark.parametrize(
    "kind, word, value", [(bool, "yes", True), (int, "3", 3), (float, "3", 3.0), (str, "3", "3")]
)
def test_a_flag_without_a_default_says_its_type(kind, word, value):
    flags = {"margin": Flag(None, "", kind)}
    found = parse(flags, "--margin", word).margin
    assert found == value and type(found) is kind and parse(flags).margin is None
    check_flags(parse(flags), {"margin": Flag(None, "", kind, low=9)})  # what was not given is not checked
    other = replace(flags["margin"], default=value)
    assert other.kind is kind and replace(other, default=None).kind is kind


@pytest.mark.parametrize(
    "kind, word, said",
    [
        (int, "2.5", "argument --margin: invalid int value: '2.5'"),
        (int, "9" * 5000, "invalid int value"),  # more digits than Python reads
        (float, "wide", "argument --margin: invalid float value: 'wide'"),
        (bool, "wide", "argument --margin: 'wide' is neither True nor False"),
    ],
    ids=["part", "long", "word", "neither"],
)
def test_a_word_of_another_type_is_one_line_and_exit_code_2(kind, word, said, capsys):
    with pytest.raises(SystemExit) as caught:
        FlagParser("A script.", {"margin": Flag(None, "", kind)}).parse_args(["--margin", word])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and said in err and err.count("\n") == 1 and ": error: " in err


def test_a_flag_of_many_words_is_a_list():
    flags = {"exp_names": Flag([], "the experiments", many=True), "sizes": Flag([], "", int, many=True)}
    args = parse(flags, "--exp-names", "a", "b", "--sizes", "1", "2")
    assert args.exp_names == ["a", "b"] and args.sizes == [1, 2]
    assert parse(flags).exp_names == []


@pytest.mark.parametrize(
    "text, numbers",
    [("8,10,15", (8, 10, 15)), ("0.5, 1", (0.5, 1)), ("", ()), ("7", (7,)), (7, (7,)), ("1e1,", (10,))],
)
def test_numbers_are_separated_by_commas(text, numbers):
    found = parse_numbers(text, "classifier_scales")
    assert found == numbers and [type(n) for n in found] == [type(n) for n in numbers]


@pytest.mark.parametrize("text", ["8;10", "eight", "8,,x", "4,,8", ",8", "None"])
def test_other_than_numbers_is_refused_by_the_flags_name(text):
    assert "--classifier_scales" in refusal(UserError, parse_numbers, text, "classifier_scales")
    flags = {"classifier_scales": Flag("8,10,15", "", parse_numbers)}
    assert "--classifier_scales" in refusal(UserError, check_flags, SimpleNamespace(classifier_scales=text), flags)


def test_a_list_stays_in_args_as_it_was_written():
    flags = {
        "classifier_scales": Flag("8,10,15", "", parse_numbers),
        "compile": Flag("auto", "", parse_bool_or_auto),
    }
    args = parse(flags, "--classifier_scales", "8, 1e1", "--compile", "yes")
    check_flags(args, flags)
    assert vars(args) == {"classifier_scales": "8, 1e1", "compile": "yes"}


# -- checks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag, value, said",
    [
        (Flag(0.5, "", low=0, high=1), 1.5, "--flag 1.5 must be from 0 to 1"),
        (Flag(0.5, "", low=0, high=1), -0.1, "--flag -0.1 must be at least 0"),
        (Flag(4, "", low=1), 0, "--flag 0 must be at least 1"),
        (Flag(4, "", low=1, high=MANY), 10**400, f"must be from 1 to {MANY}"),
        (Flag(0.5, ""), float("nan"), "--flag nan must be finite"),
        (Flag(0.5, "", low=0), float("inf"), "--flag inf must be finite"),
        (Flag(None, "", float, low=0), -1.0, "--flag -1.0 must be at least 0"),
        (Flag("1,2", "", parse_numbers, low=0), "1,-2", "--flag 1,-2 must be numbers, each at least 0"),
        (Flag("1,2", "", parse_numbers, low=0, high=9), "1,10", "--flag 1,10 must be numbers, each from 0 to 9"),
        (Flag([], "", int, low=0, many=True), [1, -2], "must be numbers, each at least 0"),
        (Flag("1,2", "", parse_numbers), "1,nan", "--flag 1,nan must be numbers, each finite"),
        (Flag("a", "", choices=("a", "b")), "c", "--flag c is unknown; choose one of a, b"),
        (Flag("a", "", choices=("a", "b")), "", "--flag  is unknown; choose one of a, b"),
        (Flag("auto", "", parse_bool_or_auto), "perhaps", "--flag perhaps is unknown; choose True, False or auto"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_that_names_the_flag(flag, value, said):
    assert said in refusal(UserError, check_flags, SimpleNamespace(flag=value), {"flag": flag})


@pytest.mark.parametrize(
    "flag, values",
    [
        (Flag(0.5, "", low=0, high=1), (0, 1, 0.3)),
        (Flag(4, "", low=0), (0, 10**30)),  # a range without an upper end has none
        (Flag(None, "", int, low=5), (None, 5)),
        (Flag("1,2", "", parse_numbers, low=0, high=9), ("0,9", "")),
        (Flag("a", "", choices={"a": 1}), ("a",)),
        (Flag("auto", "", parse_bool_or_auto), ("auto", "True", False)),
    ],
)
def test_what_is_in_range_passes(flag, values):
    for value in values:
        check_flags(SimpleNamespace(flag=value), {"flag": flag, "absent": Flag(0, "", low=1)})


def test_choices_may_be_added_to():
    methods = {"dime": 1}
    flag = {"method": Flag("dime", "how", choices=methods)}
    assert "--method mine" in refusal(UserError, check_flags, SimpleNamespace(method="mine"), flag)
    methods["mine"] = 2
    check_flags(SimpleNamespace(method="mine"), flag)


# -- help --------------------------------------------------------------------------------------------------------


def help_of(flags, capsys, required=()):
    with pytest.raises(SystemExit) as caught:
        FlagParser("A script.\n\nMore of it.", flags, required).parse_args(["--help"])
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_help_of_a_flag_says_what_it_does_its_choices_its_range_and_its_default_once(capsys):
    flags = {
        "lr": Flag(0.01, "the learning rate, 100% of it"),
        "data_dir": Flag(None, "the data"),
        "use_fp16": Flag(False, "half"),
        "split": Flag(None, "the split", choices=("train", "val", "test")),
        "share": Flag(0.5, "the share", low=0, high=1),
        "count": Flag(3, "how many", low=1, high=MANY),
        "scales": Flag("1,2", "the scales", parse_numbers, low=0),
    }
    shown = help_of(flags, capsys, required=["data_dir"])
    assert "A script." in shown and "More of it" not in shown and "-h, --help" in shown and "None" not in shown
    assert "the learning rate, 100% of it (default: 0.01)" in shown
    assert "--data_dir TEXT the data (required)" in shown and "--data-dir" not in shown
    assert " --data_dir ... [--flag value ...]" in shown.split("A script.")[0]
    assert "--use_fp16 [BOOL] half" in shown
    assert "the split (train, val or test)" in shown
    assert "the share (from 0 to 1; default: 0.5)" in shown
    assert "how many (at least 1; default: 3)" in shown
    assert "the scales (each at least 0; default: 1,2)" in shown


def test_flags_stand_under_the_headings_of_their_groups(capsys):
    flags = group_flags(
        data={"seed": Flag(0, "of the order"), "data_dir": Flag(None, "")},
        networks={"use_fp16": Flag(False, "", group="speed"), "width": Flag(8, "")},
        sampling={"seed": Flag(4, "of the noise")},
        speed={"gpu": Flag("0", "")},
    )
    groups = {name: flag.group for name, flag in flags.items()}
    assert list(groups.items()) == [
        ("data_dir", "data"),
        ("width", "networks"),
        ("seed", "sampling"),
        ("use_fp16", "speed"),
        ("gpu", "speed"),
    ]
    assert flags["seed"].default == 4
    shown = help_of(flags, capsys)
    assert re.search(r"data: .*--data_dir.* networks: .*--width.* sampling: .*--seed.* speed: .*--use_fp16", shown)


def test_a_script_may_have_other_defaults():
    flags = {"lr": Flag(0.1, "", low=0), "steps": Flag(5, "")}
    changed = with_defaults(flags, lr=1.0)
    assert changed == {"lr": Flag(1.0, "", low=0), "steps": flags["steps"]} and flags["lr"].default == 0.1
    with pytest.raises(KeyError, match="rate"):
        with_defaults(flags, rate=1.0)


@pytest.mark.parametrize("words", [["--lrr", "1"], ["--l", "1"], ["--lr"], ["word"], ["--lr", "high"]], ids=str)
def test_words_that_are_no_flags_are_one_line_that_leads_to_the_help_and_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        FlagParser("A script.", {"lr": Flag(0.1, "")}).parse_args(words)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.count("\n") == 1 and words[0] in err
    assert err.endswith(" --help tells the flags\n")


@pytest.mark.parametrize(
    "flag", [Flag(False, "the"), Flag(None, "the", bool), Flag("auto", "", parse_bool_or_auto)]
)
def test_a_switch_without_a_value_is_true(flag):
    flags = {"over_write": flag, "lr": Flag(0.1, "")}
    for spelling in ("--over_write", "--over-write"):
        given = parse(flags, spelling, "--lr", "1").over_write
        assert str2bool(given) is True and type(given) is (str if flag.default == "auto" else bool)
        assert str2bool(parse(flags, spelling, "False").over_write) is False
        assert parse(flags, "--lr", "1").over_write == flag.default


def test_every_flag_that_a_script_cannot_do_without_is_marked():
    for script, parser in all_parsers():
        marked = [action.dest for action in parser._actions if "(required" in (action.help or "")]
        assert set(parser.required) <= set(marked), script
        if parser.required and not parser._get_positional_actions():
            message = refusal(UserError, parser.parse_args, [])
            assert message == f"--{parser.required[0]} must be given", script


def test_the_help_of_main_is_in_groups():
    titles = [group.title for group in parser_of("main.py")._action_groups if group._group_actions]
    assert titles[1:] == ["data", "question", "networks", "method", "sampling", "output", "speed"]
    assert titles[0] == "options" and parser_of("main.py").flags["method"].group == "method"


# -- the flags of every script -----------------------------------------------------------------------------------


def test_every_flag_of_every_script_has_help_a_kind_and_a_default_that_can_be():
    for script, parser in all_parsers():
        flags = parser.flags
        assert {action.dest for action in parser._actions} - flags.keys() <= {"help", "what", "weights"}, script
        for name, flag in flags.items():
            assert flag.help, (script, name)
            assert parser.get_default(name) == flag.default
            if flag.kind in (bool, int, float) and not flag.many and flag.default is not None:
                assert type(flag.default) is flag.kind, (script, name)
        check_flags(SimpleNamespace(**{name: flag.default for name, flag in flags.items()}), flags)


def test_every_whole_number_of_every_script_has_two_ends():
    for script, parser in all_parsers():
        for name, flag in parser.flags.items():
            if flag.kind is int:
                assert flag.low is not None and flag.high is not None and flag.low < flag.high, (script, name)
                for value in (flag.low - 1, flag.high + 1, 2**63, 10**400, -(10**400)):
                    assert f"--{name} " in refusal(UserError, flag.check, name, value)
            elif flag.kind is float:
                assert "finite" in refusal(UserError, flag.check, name, float("nan"))


def test_flags_of_one_name_differ_in_nothing_but_defaults_and_what_is_said_of_them():
    first = {}
    for script, parser in all_parsers():
        if script not in SCRIPTS:
            continue
        for name, flag in parser.flags.items():
            same = replace(flag, default=None, help="", group="")
            assert first.setdefault(name, same) == same, (script, name)
    assert len(first) > 90


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_no_flag_is_declared_twice_with_other_ranges(name):
    flags = [parser.flags[name] for _, parser in all_parsers() if name in parser.flags]
    assert len({(flag.low, flag.high) for flag in flags}) == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["--start_step", "999999999999"], "--start_step 999999999999 must be from 1 to 10000"),
        (["--start_step", "60"], "--start_step 60 must be from 1 to 49: with this --timestep_respacing"),
        (["--timestep_respacing", str(10**30)], f"--timestep_respacing {10**30}"),
        (["--diffusion_steps", str(10**30)], f"--diffusion_steps {10**30}"),
        (["--batch_size", str(2**63)], f"--batch_size {2**63}"),
        (["--seed", "-1"], "--seed -1 must be at least 0"),
        (["--noise_schedule", "sqrt"], "--noise_schedule sqrt is unknown; choose one of linear, cosine"),
        (["--compile", "perhaps"], "--compile perhaps is unknown; choose True, False or auto"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, list) else "",
)
def test_main_refuses_what_cannot_be_before_it_reads_or_builds_anything(words, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = ["main.py", "--data_dir", "nowhere", "--model_path", "nowhere.pt", "--timestep_respacing", "50"]
    monkeypatch.setattr(sys, "argv", command + words)
    assert said in refusal(UserError, main.main)
    assert list(tmp_path.iterdir()) == []
