"""What a picture suffers from, by name, and the `Measurement` that makes it so."""

from __future__ import annotations

from ..measurement import MEASUREMENTS, Measurement
from ..validation import check_choice, check_number

TASKS = ("x2", "x4", "x8", "blur", "noise", "grey")


def measurement_of(task: str, width: float, noise: float) -> tuple[Measurement, int]:
    """The operator of a task, and how many times larger a side of the restored picture is.

    Args:
        task: one of `TASKS`.
        width: of a blur: its standard deviation in pixels.
        noise: standard deviation of the noise in what is given, a picture in [0, 1].

    Raises:
        ValueError: for another task, or the task "noise" without noise: a picture without would come back as it is.
    """
    check_choice("task", task, TASKS)
    check_number("noise", noise, "It is a standard deviation, of 0 to 1.", low=0)
    if task == "noise" and noise == 0:
        raise ValueError(
            "noise: got 0 with the task 'noise', so that nothing would be taken out; allowed is above 0. Set how "
            "strong it is in a picture of 0 to 1: 0.1 is usual."
        )
    if task == "blur":
        return MEASUREMENTS["blur"](width), 1
    if task == "grey":
        return MEASUREMENTS["grey"](), 1
    factor = int(task[1:]) if task.startswith("x") else 1
    return MEASUREMENTS["pool"](factor), factor
