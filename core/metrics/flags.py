"""The flags that the scripts which measure experiments share."""

from guided_diffusion.script.flags import BATCH_SIZE, GPU, Flag

from ..running.flags import NETWORK_FLAGS, named_flags

OUTPUT_PATH = {"output_path": Flag("output", "the --output_path of main.py")}
RESULTS_FLAGS = OUTPUT_PATH | {"exp_name": Flag("exp", "the --exp_name of main.py")}
DEVICE_FLAGS = {
    "gpu": GPU,
    "batch_size": BATCH_SIZE,
    "num_workers": Flag(
        None, "threads that read and decode images ahead; by default four more than cores", int, low=1, high=1024
    ),
}
# Where these are not given, the run's values hold (Run.network, read_run).
QUERY_FLAGS = {
    "query_label": Flag(None, "the attribute that was to change, by name or index; by default the run's")
}
ORACLE_FLAGS = {
    "oracle_path": Flag(None, "the oracle, a file or a name; by default the run's"),
    "oracle_architecture": NETWORK_FLAGS["oracle_architecture"],
    **named_flags("oracle"),
}
CLASSIFIER_FLAGS = {
    "classifier_path": Flag(None, "the explained classifier, a file or a name; by default the run's"),
    "classifier_architecture": NETWORK_FLAGS["classifier_architecture"],
    **named_flags("classifier"),
}
