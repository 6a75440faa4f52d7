"""Exercises: right answers pass, and every known mistake is rejected and diagnosed as itself."""

import ast
from pathlib import Path

import pytest
from building import ROOT
from torch import Tensor

from vitlib import check
from vitlib.check.exercise import Exercise, call, numbers

EXERCISES = list(check.EXERCISES.values())
MUTANTS = [(exercise, name) for exercise in EXERCISES for name in exercise.mutants]
CHAPTERS = sorted({exercise.chapter for exercise in EXERCISES})
CLINIC = [exercise for exercise in EXERCISES if exercise.chapter == "14_bug_clinic"]

# (exercise, mutant, mutant) that no case of the exercise tells apart -> why none can.
AMBIGUOUS: dict[tuple[str, str, str], str] = {}

# The bugs found in the wild that belong to these chapters, each under a number of its own.
WILD_BUGS = {
    1: [
        "self_attention.thrown_away",
        "attention_module.thrown_away",
        "stuck_at_chance.unchanged",
    ],
    2: ["attend.times_sqrt_d", "self_attention.times_sqrt_d", "one_hot_attention.unchanged"],
    3: ["loud_block.no_result"],
    4: ["loud_block.num_head"],
    5: ["attention_module.dropout_never_called", "attn_drop.unchanged"],
    6: ["loud_block.transposr"],
    7: ["loud_block.no_import"],
    8: ["encoder_layer.sequence_first", "torch_encoder_layer.unchanged"],
    9: [
        "encoder_layer.defaults",
        "vision_transformer.one_block_repeated",
        "torch_encoder.unchanged",
    ],
    10: ["class_token.one_for_each_image", "prepend_token.unchanged"],
    11: [
        "position_embedding.plain_tensor",
        "vision_transformer.positions_not_learned",
        "add_positions.unchanged",
    ],
    12: ["loud_block.identity_class"],
    13: ["drop_path.mask_of_the_wrong_shape", "stochastic_depth.unchanged"],
    14: ["encoder_block.act_and_norm_swapped", "configurable_block.unchanged"],
    15: ["loud_block.activation_instance"],
    16: ["loud_block.unchanged"],
    17: ["vision_transformer.head_width_is_num_classes", "classifier_head.unchanged"],
    18: ["loud_block.no_init_weights"],
    19: ["count_patches.names_the_product", "check_size.unchanged"],
    20: ["layer_norm.both_axes", "pre_norm.unchanged"],
    21: ["patchify.no_permute", "unpatchify.no_permute", "embed_patches.no_permute"],
    22: [
        "kernels_from_matrix.no_transpose",
        "embed_patches.wrong_side",
        "linear_to_conv.wrong_side",
    ],
    23: ["embed_patches.no_bias"],
    24: ["patch_embed.arguments_swapped"],
    25: ["patch_embed.reads_a_global"],
    26: ["count_patches.drops_the_rest", "patch_embed.drops_pixels"],
    27: ["resample_positions.sliced", "patch_embed.takes_any_image"],
    28: ["attend.softmax_over_queries", "self_attention.softmax_over_queries"],
    29: [
        "self_attention.scaled_by_dim",
        "attention_module.scaled_by_dim",
        "einops_attention.scaled_by_dim",
    ],
    30: ["merge_heads.no_transpose", "self_attention.no_transpose_back"],
    31: [
        "self_attention.other_order",
        "attention_module.other_order",
        "join_flax.queries_and_keys_swapped",
    ],
    32: [
        "class_token.joined_at_the_end",
        "vision_transformer.class_token_last",
        "distilled_tokens.at_the_end",
    ],
    33: [
        "assemble_tokens.positions_before_joining",
        "vision_transformer.positions_before_joining",
        "vision_transformer.class_token_without_position",
        "distilled_tokens.positions_before_joining",
    ],
    34: ["encoder_block.post_norm"],
    35: ["encoder_block.residual_from_the_norm"],
    36: ["init_tokens.deviation_one"],
    37: ["accuracy_of.training_mode", "teacher_targets.training_mode"],
    38: ["choose_step.by_the_test"],
    39: ["normalise_for.statistics_of_the_data"],
    40: ["split_parameters.everything_decays"],
    41: ["layer_norm.eps_of_torch", "encoder_layer.eps_of_torch", "gelu.tanh"],
    42: ["record_attention.the_kernel_is_fused", "record_attention.an_empty_list"],
    43: ["rollout.no_identity", "rollout.no_division"],
    44: ["patch_grid.class_token_only", "mean_distance.class_token_only"],
    46: ["init_head.bias_never_passed_on"],
    47: ["reset_head.width_from_embed_dim", "make_head.head_from_embed_dim"],
    48: ["make_head.ignored_when_distilled"],
}


def each(exercises):
    return pytest.mark.parametrize("exercise", exercises, ids=lambda exercise: exercise.name)


# --- right answers


@each(EXERCISES)
def test_the_reference_passes(exercise, unchecked):
    report = exercise(exercise.reference)
    assert report.passed, report
    assert (report.diagnosis, report.mutants, report.difference) == ("", (), None)


@each(EXERCISES)
def test_every_other_right_answer_passes(exercise, unchecked):
    assert len(exercise.accepted) >= 2, "give two right answers more, written differently"
    for number, answer in enumerate(exercise.accepted):
        report = exercise(answer)
        assert report.passed, f"accepted[{number}]: {report}"


# --- the known wrong answers


@pytest.mark.parametrize(
    ("exercise", "name"), MUTANTS, ids=[f"{exercise.name}.{name}" for exercise, name in MUTANTS]
)
def test_every_mutant_is_rejected_and_diagnosed_as_itself(exercise, name, unchecked):
    mutant, diagnosis = exercise.mutants[name]
    report = exercise(mutant)
    assert not report.passed
    assert name in report.mutants, report
    for other in set(report.mutants) - {name}:
        first, second = sorted([name, other])
        assert (exercise.name, first, second) in AMBIGUOUS, (
            f"no case tells {name} from {other}: add one, or say in AMBIGUOUS, in this file, why "
            "there is none"
        )
    assert diagnosis in report.diagnosis
    assert diagnosis in report.message
    assert diagnosis in str(report)


@each(CLINIC)
def test_a_case_of_the_clinic_begins_with_its_own_code_and_has_three_repairs_of_each_kind(exercise):
    first, *others = exercise.mutants
    assert first == "unchanged"
    assert exercise.mutants[first][1].startswith("The symptom is still there: ")
    assert len(others) >= 3, "give three wrong repairs"
    assert len(exercise.accepted) >= 3, "give three right repairs"


@each(EXERCISES)
def test_diagnoses_are_distinct_sentences(exercise):
    said = {}
    for name, (_, diagnosis) in exercise.mutants.items():
        assert len(diagnosis.split()) >= 5, name
        assert diagnosis.rstrip("`)").endswith((".", "?", "!", "…")), name
        assert diagnosis == diagnosis.strip(), name
        assert "  " not in diagnosis, name
        twin = said.setdefault(diagnosis, name)
        # one mistake may come in two forms, such as with and without no_grad
        assert name.startswith(twin), f"{twin} and {name} say the same"


def test_mutants_that_cannot_be_told_apart_are_both_named():
    table = {
        "half": (lambda x: x / 2, "It is halved."),
        "by_two": (lambda x: x * 0.5, "It is multiplied by a half."),
        "kept": (lambda x: x, "It is not doubled."),
    }

    def cases(answer):
        yield "five numbers", lambda: call(answer, numbers(5))

    report = Exercise("double", "0", "2x", lambda x: 2 * x, cases, table)(lambda x: x - x / 2)
    assert report.mutants == ("half", "by_two")
    assert report.diagnosis == "It is halved.\n\nOr: It is multiplied by a half."
    assert report.diagnosis in report.message


def test_the_table_of_ambiguous_mutants_holds_no_others(unchecked):
    for name, first, second in AMBIGUOUS:
        exercise = check.EXERCISES[name]
        assert {first, second} <= set(exercise(exercise.mutants[first][0]).mutants)


# --- the collection as a whole


def test_there_are_many_exercises_and_mutants():
    assert len(EXERCISES) >= 91
    assert len(MUTANTS) >= 3456
    assert sum(len(exercise.accepted) for exercise in EXERCISES) >= 271


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_four_to_eight_exercises(chapter):
    names = [exercise.name for exercise in EXERCISES if exercise.chapter == chapter]
    most = 24 if chapter == "14_bug_clinic" else 8  # the clinic is all cases, in several sittings
    assert 4 <= len(names) <= most, (
        f"chapter {chapter} has {len(names)} exercises ({', '.join(names)}). A reader does 4 to 8 "
        "in one sitting; more belong in another chapter"
    )
    assert (ROOT / "book" / f"{chapter}.ipynb").exists()


@each(EXERCISES)
def test_an_exercise_is_found_under_its_name_in_the_folder_of_its_chapter(exercise):
    file = Path(check.__file__).parent / f"ch{exercise.chapter}" / f"{exercise.name}.py"
    assert file.exists(), f"name= must be the file's name, and chapter= its folder's: no {file}"
    assert exercise.probe is not None, "the tests need a probe: see vitlib/check/probing.py"


def test_known_mistakes_are_written_in_few_lines():
    """About nine and a half lines for each, right answers, cases and task included."""
    folder = Path(check.__file__).parent
    lines = 0
    for file in folder.glob("ch*/*.py"):
        text = file.read_text("utf8")
        lines += text.count("\n")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name == "probe":
                lines -= node.end_lineno - node.lineno + 1
    assert lines / len(MUTANTS) <= 9.5


@pytest.mark.parametrize("number", WILD_BUGS)
def test_every_bug_of_the_wild_has_its_mutant(number):
    for name in WILD_BUGS[number]:
        exercise, mutant = name.split(".")
        assert mutant in check.EXERCISES[exercise].mutants, name


def test_no_exercise_is_hidden_by_a_file():
    files = {path.stem for path in Path(check.__file__).parent.glob("*.py")}
    assert not files & check.EXERCISES.keys()
    for name, exercise in check.EXERCISES.items():
        assert name.isidentifier()
        assert exercise.name == name
        assert getattr(check, name) is exercise


@each(EXERCISES)
def test_a_task_and_its_cases_are_told_plainly(exercise, unchecked):
    assert exercise.task in repr(exercise)
    observations = exercise._observe(exercise.reference)
    labels = [seen.label for seen in observations]
    assert len(set(labels)) == len(labels) >= 2
    assert all(label and not label.endswith(".") for label in labels)


@each(EXERCISES)
def test_cases_are_the_same_every_time(exercise, unchecked):
    first, second = exercise(exercise.reference), exercise(exercise.reference)
    assert first == second
    wrong = next(iter(exercise.mutants.values()))[0]
    assert str(exercise(wrong)) == str(exercise(wrong))


@each(EXERCISES)
def test_checkers_are_small(exercise, unchecked):
    """How long one takes, benchmarks/checkers.py tells; this keeps what is compared small."""
    observations = [seen.result for seen in exercise._observe(exercise.reference)]
    assert len(observations) <= 16
    assert sum(_size(seen) for seen in observations) < 100_000


def _size(seen):
    if isinstance(seen, Tensor):
        return seen.numel()
    parts = seen.values() if isinstance(seen, dict) else seen
    return sum(map(_size, parts)) if isinstance(seen, dict | list | tuple) else 1


def test_the_benchmark_runs(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import checkers

    assert checkers.main(["count_patches", "patchify"], repeats=1) == 0
    printed = capsys.readouterr().out
    assert "count_patches" in printed
    assert "2 checkers, the slowest" in printed
