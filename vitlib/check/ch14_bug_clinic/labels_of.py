"""14.14 labels_of: the folders of the splits are read as classes."""

from pathlib import PurePosixPath

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call
from vitlib.check.probing import returns


def labels_of(paths):
    return [path.split("/")[-2] for path in paths]


def by_path(paths):
    return [PurePosixPath(path).parent.name for path in paths]


def by_rsplit(paths):
    return [path.rsplit("/", 2)[-2] for path in paths]


def by_loop(paths):
    labels = []
    for path in paths:
        folder, _, _ = path.rpartition("/")
        labels.append(folder.rpartition("/")[2])
    return labels


def cases(answer) -> Cases:
    def labels(*paths):
        return call(answer, list(paths))

    yield (
        "folders of splits",
        lambda: labels("training_set/cat/1.jpg", "training_set/dog/2.jpg", "test_set/cat/1.jpg"),
    )
    yield "class folders alone", lambda: labels("dog/1.jpg", "cat/7.jpg", "cat/1.jpg")
    yield (
        "two folders around them",
        lambda: labels("data/seg_train/sea/1.jpg", "data/dev/ice/3.jpg"),
    )
    yield (
        "a class that is called like a split",
        lambda: labels("train/train/1.jpg", "train/bus/2.jpg", "val/train/3.jpg"),
    )
    yield "depths that differ", lambda: labels("train/cat/1.jpg", "dog/2.jpg", "a/b/c/fox.1.png")


MUTANTS = edits(labels_of, """
unchanged: [-2] → [0]
    The symptom is still there: the data set has other classes than its owner thinks. Print their
    names.
second_folder: [-2] → [min(1, path.count("/") - 1)]
    You take the second folder wherever there are two. With one more around them, that is the split
    again.
second_part: [-2] → [1]
    You take the second part from the front. Where no folder stands around the class, that is the
    file. Count from the end.
third_from_the_end: [-2] → [-3]
    You count one folder too far. The last part is the file, and the one before it its folder.
known_splits: path.split("/")[-2] → path.removeprefix("train/").removeprefix("val/").split("/")[0]
    Only folders called train and val are taken for splits. There are training_set, seg_train and
    dev as well, and a class may be called train.
file_name: [-2] → [-1]
    This is the name of the file. Its class is the name of the folder.
file_stem: [-2] → [-1].split(".")[0]
    This is made of the name of the file. The class is the name of the folder.
whole_folder: path.split("/")[-2] → path.rpartition("/")[0]
    The label contains the folders around it, so that a class is another one in each split.
set_of_classes: [path.split("/")[-2] for path in paths] →
→ sorted({path.split("/")[-2] for path in paths})
    These are the classes, each once. Return one label per image, in the order of the paths.
numbers: return [path.split("/")[-2] for path in paths] →
→ names = [path.split("/")[-2] for path in paths]
→ return [sorted(set(names)).index(name) for name in names]
    These are numbers of the classes. Their names are asked for.
first_path_only: for path in paths] → for path in paths[:1]]
    Only the first path is looked at. Return a label for each of them.
""") | edits(by_path, """
third_from_the_end_by_parents: .parent.name → .parent.parent.name
    You count one folder too far. The last part is the file, and the one before it its folder.
""")  # fmt: skip


def probe(answer):
    given = [
        ["train/a/1.png", "val/b/2.png"],
        ["x/1.png", "y/2.png", "x/3.png"],
        ["p/q/r/1.png", "val/s/2.png"],
    ]
    return [returns(answer, paths) for paths in given]


EXERCISE = Exercise(
    name="labels_of",
    chapter="14_bug_clinic",
    task="labels_of(paths): for each path of an image, such as 'val/cat/1.jpg', the name of the "
    "folder in which the file lies, whatever folders are around it",
    reference=labels_of,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_path, by_rsplit, by_loop],
    probe=probe,
)
