"""Which differences between conditions are significant: by simulation, and against tests whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from genlab import files
from genlab.errors import GenlabError
from genlab.evaluate import comparison
from genlab.export import model_card

PAIR = ("generated", "real")


def simulated(seeds, images, random, *, kind="noise", gain=0.0, accuracy=0.85):
    """A study of two conditions of equal accuracy but for `gain`, which is added to the logit of an image's being found.

    `noise`: both are one procedure, and trainings differ by chance. `biased`: each condition has images of its own that it
    finds hard, so that one is ahead on this test set alone. `fixed`: the same without any spread over seeds.
    """
    hard = random.normal(0, 2.5, images) + 2.5 * np.log(accuracy / (1 - accuracy))
    setting = comparison.Setting(20)
    own = {name: hard + (kind != "noise") * random.normal(0, 2.5, images) for name in PAIR}
    labels = np.zeros(images, int)
    for _ in range(seeds):
        shared, answers = random.normal(0, 0.3), {}
        for name in PAIR:
            level = own[name] + (gain if name == "generated" else 0.0)
            if kind != "fixed":
                level = level + shared + random.normal(0, 0.3) + random.logistic(size=images)
            answers[name] = (level <= 0).astype(int)  # class 0 is right
        setting.add(answers, labels, 2)
    return setting


@pytest.mark.parametrize("kind", ["noise", "biased", "fixed"])
@pytest.mark.parametrize(
    ("seeds", "images", "studies"),
    [(3, 50, 300), (5, 50, 300), (10, 50, 200), (3, 360, 300), (5, 360, 200), (4, 10_000, 60)],
)
def test_equals_are_told_apart_in_one_of_twenty_studies_at_most(kind, seeds, images, studies):
    random = np.random.default_rng([seeds, images])
    found = [
        comparison.differences([simulated(seeds, images, random, kind=kind)], *PAIR)[0].verdict for _ in range(studies)
    ]
    assert set(found) <= {"help", "harm", comparison.NO_DIFFERENCE}
    assert sum(each != comparison.NO_DIFFERENCE for each in found) <= 0.05 * studies


def test_equals_are_told_apart_as_seldom_without_the_answers():
    """Results that hold accuracies alone."""
    random = np.random.default_rng(0)
    false = 0
    for _ in range(300):
        setting = simulated(5, 360, random, kind="biased")
        setting.right = {}
        false += comparison.differences([setting], *PAIR)[0].verdict != comparison.NO_DIFFERENCE
    assert false <= 15


@pytest.mark.parametrize(("images", "gain"), [(360, 1.5), (2000, 1.2)])
def test_a_clear_gain_is_found_with_five_seeds(images, gain):
    random = np.random.default_rng(0)
    settings = [simulated(5, images, random, gain=gain) for _ in range(60)]
    assert 0.03 < np.mean([setting.difference(*PAIR)[0] for setting in settings]) < 0.08
    found = [comparison.differences([setting], *PAIR)[0].verdict for setting in settings]
    assert found.count("help") > 50 and "harm" not in found


def test_identical_differences_are_no_proof():
    """Two of fifty images more, by each seed: the plain t-test divides by a spread of 0."""
    setting = comparison.Setting(20, {"real": [0.8, 0.84, 0.9], "generated": [0.84, 0.88, 0.94]}, tested=50)
    gain, p = setting.difference(*PAIR)
    assert gain == pytest.approx(0.04) and p > 0.3
    assert comparison.differences([setting], *PAIR)[0].verdict == comparison.NO_DIFFERENCE


def test_without_noise_of_the_test_images_it_is_the_paired_t_test():
    random = np.random.default_rng(0)
    accuracy = {name: list(random.normal(0.85 + 0.01 * (name == "real"), 0.01, 6)) for name in PAIR}
    expected = stats.ttest_rel(*(accuracy[name] for name in PAIR)).pvalue
    assert comparison.Setting(20, accuracy, tested=10**12).difference(*PAIR)[1] == pytest.approx(expected, rel=1e-4)
    for images in (50, 1000, 10**6):  # never stricter
        assert comparison.Setting(20, accuracy, tested=images).difference(*PAIR)[1] > expected


def test_with_seeds_that_agree_it_is_mcnemars_test():
    labels = np.zeros(200, int)
    real, generated = labels.copy(), labels.copy()
    real[:30], generated[20:41] = 1, 1  # 20 images that only `generated` finds, 11 that only `real` finds
    setting = comparison.Setting(20)
    for _ in range(4):
        setting.add({"real": real, "generated": generated}, labels, 2)
    chi_square = (20 - 11) ** 2 / (20 + 11)
    assert setting.difference(*PAIR)[1] == pytest.approx(2 * stats.t.sf(np.sqrt(chi_square), 3))


def test_results_of_a_seed_by_hand():
    setting = comparison.Setting(20)
    setting.add({"real": np.array([0, 0, 1, 2]), "generated": np.array([0, 1, 1, 0])}, np.array([0, 0, 1, 0]), 4)
    assert setting.tested == 4 and setting.accuracy == {"real": [0.75], "generated": [0.75]}
    np.testing.assert_allclose(setting.recall["real"], [[2 / 3, 1, np.nan, np.nan]])
    assert setting.newest() == "real 75.0%, generated 75.0%"
    for _ in range(2):
        setting.add({"real": np.zeros(4, int), "generated": np.zeros(4, int)}, np.array([0, 0, 1, 0]), 4)
    assert setting.difference(*PAIR) == (0.0, 1.0)


def test_numbers_are_shown_as_such():
    assert comparison.spread([0.5, 0.7]) == "60.00% ± 14.14%" and comparison.spread([0.5]) == "50.00%"
    assert [comparison.shown(p) for p in (None, 0.0009, 0.001, 0.05)] == ["–", "<0.001", "0.001", "0.050"]
    assert [comparison.Setting(images).name for images in (None, 1000)] == ["all", "1,000"]


def test_rows_of_each_class_are_chosen_at_random():
    labels = np.array([1, 0, 0, 0, 1, 1])
    rows = comparison.chosen_rows(labels, 2, 0)
    assert sorted(labels[rows]) == [0, 0, 1, 1] and len(set(rows)) == 4
    assert len({tuple(sorted(comparison.chosen_rows(labels, 2, seed))) for seed in range(100)}) == 3 * 3
    assert sorted(comparison.chosen_rows(labels, None, 0)) == [0, 1, 2, 3, 4, 5]


def test_no_verdict_below_three_seeds():
    setting = comparison.Setting(20, {"real": [0.5, 0.6], "generated": [0.9, 0.9]}, tested=10_000)
    assert setting.difference(*PAIR)[1] is None
    (found,) = comparison.differences([setting], *PAIR)
    assert found.verdict == comparison.UNDECIDED and found.p_holm is None
    assert comparison.table([setting], "images", *PAIR).endswith("–")


def test_holms_correction_by_hand():
    # Sorted 0.01, 0.02, 0.04: times 3, 2, 1 and never falling.
    assert comparison.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert comparison.holm([0.6, 0.9]) == [1.0, 1.0] and comparison.holm([]) == []


def test_several_settings_are_corrected_before_the_verdict():
    accuracy = {"real": [0.85, 0.84, 0.86, 0.83, 0.85], "generated": [0.82, 0.835, 0.833, 0.82, 0.84]}
    one = comparison.Setting(20, accuracy, tested=10**6)
    assert 0.02 < one.difference(*PAIR)[1] < 0.05
    assert [each.verdict for each in comparison.differences([one], *PAIR)] == ["harm"]
    three = comparison.differences([one] * 3, *PAIR)
    assert [each.verdict for each in three] == [comparison.NO_DIFFERENCE] * 3
    assert three[0].p_holm == pytest.approx(3 * three[0].p)
    table = comparison.table([one] * 3, "images", *PAIR)
    assert "p (Holm)" in table and table.count("-1.64") == 3  # points of accuracy


def test_the_model_card_says_what_was_found(own_run):
    run = own_run("gan")
    accuracy = {"real": [0.5, 0.6, 0.55, 0.5], "generated": [0.6, 0.7, 0.64, 0.61]}
    kept = {"data": "digits", "tested_on": 10_000, "settings": [{"images": 20, "accuracy": accuracy, "p": 0.0}]}
    (expected,) = comparison.differences([comparison.Setting(20, accuracy, tested=10_000)], *PAIR)
    for seeds, words in (
        (4, f"+{100 * expected.gain:.2f} points of a classifier's accuracy, p = {expected.p:.2g}."),
        (2, "too few seeds"),
    ):
        kept["settings"][0]["accuracy"] = {name: values[:seeds] for name, values in accuracy.items()}
        (run.path / "augment.json").write_text(json.dumps(kept))  # as it was written with the plain t-test
        assert words in model_card.text(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {}}, "dict is not a list"),
        ({"tested_on": 0}, "nothing was tested"),
        ({"tested_on": 10**15}, "not those of 1,000,000,000,000,000 test images"),
        ({"accuracy": {"real": [0.5]}}, "'generated'"),
        ({"accuracy": {"real": [0.5], "generated": []}}, "different numbers of seeds"),
        ({"accuracy": {"real": ["a"], "generated": ["b"]}}, "is neither float or int"),
        ({"recall": {"real": [["many"]]}}, "did not match"),
        ({"right": {"real": ["!!!!"], "generated": ["!!!!"]}}, None),
        ({"right": {"real": ["A" * 8], "generated": ["A" * 8]}}, "not those of 12 test images"),
    ],
    ids=str,
)
def test_a_stored_study_that_was_changed_is_not_read(change, words, tmp_path):
    setting = {"images": 20, "accuracy": {"real": [0.5], "generated": [0.5]}}
    setting["right"] = {name: [comparison.packed(np.ones(12, bool))] for name in PAIR}
    right = {"data": "digits", "tested_on": 12, "settings": [setting]}
    path = files.write_json(tmp_path / "augment.json", right)
    assert comparison.read(path, *PAIR)[2][0].gain == 0
    setting |= {name: value for name, value in change.items() if name in setting or name == "recall"}
    files.write_json(path, right | {name: value for name, value in change.items() if name in right})
    if words is None:  # answers that are not base64 matter to a p-value alone
        assert comparison.read(path, *PAIR)[2][0].p is None
        return
    with pytest.raises(GenlabError, match=words) as refused:
        comparison.read(path, *PAIR)
    assert "augment.json cannot be read" in str(refused.value) and "\n" not in str(refused.value)


def test_which_images_were_right_survives_json():
    right = np.random.default_rng(0).random(37) < 0.5
    np.testing.assert_array_equal(comparison.unpacked(comparison.packed(right), 37), right)
    with pytest.raises(ValueError, match=r"Setting\.tested is 0"):
        comparison.Setting(20, {"real": [0.5] * 3, "generated": [0.6] * 3}).difference(*PAIR)
