"""The share of trained weights: the best on the dev set with which no guard set falls too far."""

from nearfield.training.fine_tuning.torch_training.share_choice import choose_share

DEV = {0.3: 27.0, 0.5: 38.0, 0.7: 48.0, 1.0: 56.0}
FALLS = {0.3: 0.2, 0.5: 0.6, 0.7: 1.4, 1.0: 3.0}


def choose(max_fall: float, dev: dict[float, float] = DEV, base: float = 17.0) -> tuple[float, list[float]]:
    choice = choose_share(dev, base, lambda share: {"stsb": FALLS[share]}, max_fall)
    return choice.share, list(choice.falls)


def test_the_best_share_is_taken_if_no_guard_falls() -> None:
    assert choose(5.0) == (1.0, [1.0])


def test_a_smaller_share_is_taken_where_a_guard_falls_with_larger_ones() -> None:
    assert choose(1.0) == (0.5, [1.0, 0.7, 0.5])
    assert choose(0.5) == (0.3, [1.0, 0.7, 0.5, 0.3])


def test_the_best_share_is_taken_if_a_guard_falls_with_all() -> None:
    assert choose(0.1) == (1.0, [1.0, 0.7, 0.5, 0.3])


def test_shares_no_better_than_the_base_are_not_tried() -> None:
    assert choose(0.5, base=40.0) == (1.0, [1.0, 0.7])


def test_of_equal_shares_the_smaller_is_taken() -> None:
    assert choose(9.0, {0.3: 20.0, 0.5: 20.0}) == (0.3, [0.3])


def test_without_guards_the_dev_set_alone_decides() -> None:
    assert choose_share(DEV, 17.0, lambda _: {}, 0.5).share == 1.0
