"""The report in a real browser: Chromium, driven by Playwright, from the disk.

`apt-get install chromium` and `pip install -r requirements-dev.txt` make these tests run.
"""

import shutil

import pytest
from report_pages import NASTY, report
from test_report_audit import once, rename, rewrite  # noqa: F401
from toy_report import name_attributes, write_experiment, write_names

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (apt-get install chromium)")
WIDTHS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The report of 24 images with an oracle and masks, whose names would run scripts."""
    root = tmp_path_factory.mktemp("report")
    write_names(root / "data", ("Smiling", NASTY, 'say "hi"'))
    write_experiment(root, "smile", n=24, mask=True, flags={"data_dir": str(root / "data")})
    return report(root, "smile")


@pytest.fixture(scope="module")
def audit(once):  # noqa: F811
    """The report of an audited experiment, whose names would run scripts."""
    rewrite(once, rename)
    return report(once, "smile")


@pytest.fixture
def visit(chromium):
    """visit(folder, name) -> the open page. There must be no error until the end, and no request to elsewhere."""
    contexts, wrong = [], []

    def open_page(folder, name="index.html", width="desktop", **options):
        contexts.append(chromium.new_context(viewport=WIDTHS[width], **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("an alert"), dialog.dismiss()))
        page.on("requestfailed", lambda request: wrong.append(f"{request.url} failed"))
        page.on("request", lambda r: r.url.startswith(("file://", "data:")) or wrong.append(r.url))
        page.goto(f"file://{folder}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def shown(page, key="number"):
    """A figure of each visible card, in the order of the page."""
    return page.eval_on_selector_all(".card:not([hidden])", f"cards => cards.map(c => c.dataset['{key}'])")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.html", "failures.html"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_from_the_disk_and_shows_every_picture_and_nothing_sideways(folder, visit, name, width):
    assert_all_is_shown(visit(folder, name, width))


def assert_all_is_shown(page):
    for picture in page.locator(".card, figure, .map").all():
        picture.scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight > innerHeight")


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_audit_is_shown_whole_with_its_names_as_text(audit, visit, width):
    page = visit(audit, "audit.html", width)
    assert_all_is_shown(page)
    assert NASTY in page.locator(".sentence").inner_text() and NASTY in page.locator("table").first.inner_text()
    page.locator(".example a").first.click()
    page.locator("#viewer").wait_for()  # it is on another page, which has to load
    assert page.locator("#viewer").is_visible() and "index.html#e1-" in page.url


def test_names_are_text(folder, visit):
    page = visit(folder)
    assert NASTY in page.locator("#found").inner_text() and NASTY in page.locator("#changed").inner_text()
    assert page.evaluate("document.scripts.length") == 1


def test_the_gallery_is_sorted_by_what_is_chosen(folder, visit):
    page = visit(folder)
    by_chance = shown(page)
    assert sorted(by_chance, key=int) == list(map(str, range(24))) != by_chance
    for order in ("number", "after", "-after", "before", "attempts", "-changed", "l1", "-outside", "quality"):
        page.select_option("[name=order]", order)
        values = list(map(float, shown(page, order.strip("-"))))
        assert values == sorted(values, reverse=order.startswith("-")) and len(values) == 24
    page.select_option("[name=order]", "-quality")
    assert page.locator(".card .tag").first.text_content() == "worst" and shown(page, "reached")[0] == "no"
    page.click("[type=reset]")
    page.wait_for_function(
        "order => [...document.querySelectorAll('.card:not([hidden])')].map(c => c.dataset.number).join() == order",
        arg=",".join(by_chance),
    )


def test_the_gallery_is_filtered_by_what_is_chosen(folder, visit):
    page = visit(folder)
    for name, value in {"reached": "no", "oracle": "disagrees", "right": "wrong"}.items():
        page.select_option(f"[name={name}]", value)
        assert set(shown(page, name)) == {value} and 0 < len(shown(page)) < 24
        assert page.locator("#count").inner_text() == f"{len(shown(page))} of 24 images"
        page.select_option(f"[name={name}]", "")
    page.select_option("[name=direction]", "Smiling → not Smiling")
    assert set(shown(page, "direction")) == {"Smiling → not Smiling"}
    page.select_option("[name=direction]", "")
    page.select_option("[name=attribute]", label="Smiling")
    assert 0 < len(shown(page)) < 24 and all("0" in each.split() for each in shown(page, "attributes"))
    page.select_option("[name=attribute]", "")
    page.select_option("[name=failure]", "flip")
    assert shown(page, "failures") == ["flip outside"] * 4
    page.select_option("[name=failure]", "")
    page.fill("[name=least]", "0.7")
    page.fill("[name=most]", "0.8")
    assert all(0.7 <= float(p) <= 0.8 for p in shown(page, "after"))
    page.click("[type=reset]")
    page.wait_for_function("document.querySelectorAll('.card[hidden]').length === 0")
    page.fill("[name=text]", "VAL_00007")
    assert shown(page) == ["7"]
    page.fill("[name=text]", "nothing")
    assert shown(page) == [] and page.locator("#count").inner_text() == "0 of 24 images"


def test_the_slider_moves_between_before_and_after(folder, visit):
    page = visit(folder)
    page.locator(".card").first.click()
    slider, after = page.locator("#viewer input[type=range]"), page.locator("#viewer .after")

    def clipped():
        return after.evaluate("image => getComputedStyle(image).clipPath")

    assert clipped() == "inset(0px 0px 0px 50%)"
    slider.fill("20")
    assert clipped() == "inset(0px 0px 0px 20%)"
    slider.focus()
    page.keyboard.press("ArrowUp")
    assert slider.input_value() == "30" and clipped() == "inset(0px 0px 0px 30%)"
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "31"
    assert page.locator("#viewer .frame img").evaluate_all("all => all.every(i => i.naturalWidth === 16)")


def test_the_keyboard_is_enough(folder, visit):
    page = visit(folder)
    order = shown(page, "id")
    page.locator(".card .open").first.focus()
    page.keyboard.press("Enter")
    title = page.locator("#viewer-title")
    assert page.locator("#viewer").is_visible() and title.inner_text().startswith(order[0])
    page.keyboard.press("ArrowRight")
    assert title.inner_text().startswith(order[1]) and page.url.endswith(f"#e1-{order[1]}")
    page.keyboard.press("ArrowDown")
    assert page.locator("#viewer input[type=range]").input_value() == "40"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # there is none before the first
    assert title.inner_text().startswith(order[0])
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    assert page.evaluate("document.activeElement.textContent") == order[0]


def test_a_link_leads_to_an_image(folder, visit):
    page = visit(folder, "index.html#e1-0000007")
    assert page.locator("#viewer-title").inner_text().startswith("0000007")
    page = visit(folder, "failures.html#flip-e1-0000004")
    assert page.locator("#viewer-title").inner_text().startswith("0000004")


def test_without_scripts_everything_can_be_read(folder, visit):
    page = visit(folder, java_script_enabled=False)
    assert page.locator(".card").count() == 24 and page.locator(".card").first.is_visible()
    assert not page.locator("#controls").is_visible() and not page.locator("#theme").is_visible()


def test_it_is_dark_or_light_as_the_system_or_the_reader_wants(folder, visit):
    page = visit(folder, color_scheme="dark")

    def brightness():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.strip("rgb()").split(",")))

    assert brightness() < 150
    page.click("#theme")
    assert brightness() > 600 and page.locator("#theme").inner_text() == "Dark"
    page.reload()
    assert brightness() > 600


def test_what_is_printed_is_light_and_a_few_cards(folder, visit, tmp_path):
    page = visit(folder, color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible() and not page.locator(".top").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media=None)
    assert page.pdf(path=tmp_path / "report.pdf").startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.html", "failures.html", "audit.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(folder, audit, visit, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = visit(audit if name == "audit.html" else folder, name, color_scheme=scheme)

    def faults():
        violations = axe.Axe().run(page, options={"preload": False}).response["violations"]
        return [(v["id"], v["nodes"][0]["html"]) for v in violations if v["impact"] in ("serious", "critical")]

    assert faults() == []
    if name != "audit.html":
        page.locator(".card .open").first.click()
        assert faults() == []


@pytest.mark.slow
def test_500_images_take_a_few_megabytes_and_are_all_there(tmp_path, visit):
    write_experiment(tmp_path, n=500, mask=True)
    large = report(tmp_path, "exp")
    assert sum(path.stat().st_size for path in large.rglob("*")) < 6e6
    page = visit(large)
    assert page.locator(".card").count() == 500
    page.select_option("[name=order]", "-quality")
    assert shown(page, "reached")[0] == "no"


def test_several_experiments_stand_side_by_side(tmp_path, visit):
    write_experiment(tmp_path, "a", n=9)
    write_experiment(tmp_path, "b", n=12)
    page = visit(report(tmp_path, "a", "b"))
    measure = "c => [c.dataset.id, c.dataset.experiment, c.getBoundingClientRect().x, c.getBoundingClientRect().y]"
    places = page.eval_on_selector_all(".card", f"cards => cards.map({measure})")
    columns = {experiment: {x for _, of, x, _ in places if of == experiment} for experiment in "12"}
    assert all(len(xs) == 1 for xs in columns.values()) and min(columns["1"]) < min(columns["2"])
    rows = {}
    for name, _, _, y in places:
        rows.setdefault(name, set()).add(y)
    assert all(len(ys) == 1 for ys in rows.values())
    page.locator(".card .open").first.click()
    first, name, *_ = page.locator("#viewer-title").inner_text().split(" · ")
    assert name == "a" and first == places[0][0]
    page.keyboard.press("Escape")
    page.select_option("[name=experiment]", "2")
    assert set(shown(page, "experiment")) == {"2"} and len(shown(page)) == 12


def test_an_attribute_is_filtered_in_all_experiments_though_their_oracles_number_it_differently(tmp_path, visit):
    for name, names in {"a": ("Smiling", "Young", "Male"), "b": ("Young", "Hat", "Smiling")}.items():
        write_experiment(tmp_path, name)
        name_attributes(tmp_path, name, names)
    page = visit(report(tmp_path, "a", "b"))
    page.select_option("[name=attribute]", label="Young")
    texts = page.locator(".card:not([hidden]) .changed").all_text_contents()
    assert len(texts) == 8 + 6 and all("Young" in text for text in texts)  # b's oracle does not see two change


def test_one_image_is_counted_in_the_singular(tmp_path, visit):
    write_experiment(tmp_path, n=1)
    page = visit(report(tmp_path, "exp"))
    assert page.locator("#count").inner_text() == "1 image"
    page.fill("[name=text]", "nothing")
    assert page.locator("#count").inner_text() == "0 of 1 image"
