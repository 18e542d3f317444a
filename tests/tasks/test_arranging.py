"""Training windows are told so that what is learned can be drawn, and as requests tell it later."""

import numpy as np

from seqgen.tasks import TASKS, Arranger, Passage, accompany, continuation, infill, known_tasks
from seqgen.tasks.request import Writing
from seqgen.vocabulary import RESET

ROOM = 700


def names_of(teller, ids):
    names = {i: name for name, i in teller.id_of.items()}
    return [names[i] for i in ids]


def windows(teller, piece, task, *, n=30, room=ROOM):
    """Windows of a task, drawn by as many seeds, from bars all over the piece."""
    for seed in range(n):
        rng = np.random.default_rng(seed)
        told = TASKS[task](teller, piece, seed % (len(piece.bars) - 1), room, rng)
        if told is not None:
            yield told


def test_what_is_learned_may_be_drawn(teller, tokenizer, piece):
    vocabulary = tokenizer.vocabulary
    grammar, n_learned = vocabulary.grammar, 0
    tasks = known_tasks(tokenizer.config)
    assert tasks == [name for name in TASKS if name != "accompany" or teller.parts != [""]]
    for told in (told for task in tasks for told in windows(teller, piece, task, n=8)):
        ids, before = np.array(told.ids), None
        registers = (RESET,) * grammar.n_registers
        for i, token in enumerate(ids):
            if i and not told.given[i]:
                allowed = vocabulary.allowed(
                    ids[None, i - 1, None], has_unit=np.array([True]), registers=registers[None]
                )
                assert allowed[0, token], names_of(teller, ids[max(i - 5, 0) : i + 1])
                n_learned += 1
            registers = np.array(grammar.registers_after(ids[i : i + 1], before))
            before = tuple(registers.tolist())
    assert n_learned > 300


def test_marks_are_never_learned_and_never_drawn(teller, tokenizer, piece):
    marks = {
        i for name, i in teller.id_of.items() if name.startswith(("Given_", "Held_", "Answer_"))
    }
    allowed = tokenizer.vocabulary.grammar.table
    assert not allowed[:, sorted(marks)].any()
    seen = set()
    for task in known_tasks(tokenizer.config):
        for told in windows(teller, piece, task):
            found = [(i, given) for i, given in zip(told.ids, told.given, strict=True)]
            assert all(given for i, given in found if i in marks)
            seen |= {i for i, _ in found} & marks
    assert len(seen) > 20


def test_a_window_without_controls_is_the_piece(teller, piece, ids, monkeypatch):
    monkeypatch.setattr("seqgen.tasks.telling.NO_CONTROLS", 1.0)
    told = continuation.arrange(teller, piece, 0, 10_000, np.random.default_rng(0))
    assert told.ids == ids[:, 0].tolist()
    assert not any(told.given)


def is_mark(name):
    return name.partition("_")[0] in ("Given", "Held", "Answer")


def test_infill_tells_what_is_around_the_hole_and_then_the_hole(teller, piece, monkeypatch):
    monkeypatch.setattr("seqgen.tasks.telling.NO_CONTROLS", 1.0)
    monkeypatch.setattr("seqgen.tasks.infill.ALL_PARTS", 1.0)
    for told in windows(teller, piece, "infill", room=5000):
        names = names_of(teller, told.ids)
        after, first, fill = (names.index(f"Held_task.{x}") for x in ("after", "before", "fill"))
        n_bars = int(names[0].removeprefix("Held_hole."))
        right, left = told.ids[after + 1 : first], told.ids[first + 1 : fill]
        begun = left.count(teller.bar)
        whole = [i for bar in piece.bars for i in teller.plain(bar)]
        assert [n for n in names if n.startswith("Held_hole.")] == [
            f"Held_hole.{n_bars - k}" for k in range(n_bars)
        ]
        leads_to = [n for n in names if n.startswith("Held_next-")]
        assert leads_to in [
            names_of(teller, teller.leads_to(bar))
            for bar in piece.bars
            if right[: teller.size(bar)] == teller.plain(bar)
        ]
        last = len(names) - 1
        middle = [told.ids[i] for i in range(fill, last) if not is_mark(names[i])]
        told_again = [i for i in left if i != teller.bos] + middle + right
        places = [whole[k : k + len(told_again)] for k in range(len(whole))]
        assert told_again in places
        assert middle.count(teller.bar) == n_bars
        assert told.ids[-1] == teller.bar
        given = [n for n, given in zip(names, told.given, strict=True) if given]
        given = [n for n in given[1:] if not n.startswith(("Held_hole.", "Held_next-"))]
        assert given == [
            *("Held_task.after", "Bar_None", "Held_task.before"),
            *(["BOS_None"] if teller.bos in left else []),
            *(["Bar_None"] if teller.bar in left else []),
            *("Held_task.fill", "Bar_None"),
        ]
        assert begun + n_bars + right.count(teller.bar) <= len(piece.bars)


def test_a_request_is_told_as_in_training(teller, tokenizer, piece):
    """What a model is given is, token for token, what it was trained with."""
    tasks = [name for name in known_tasks(tokenizer.config) if name != "continue"]
    compared = []
    for task in tasks:
        for told in windows(teller, piece, task, n=12, room=100_000):
            names = names_of(teller, told.ids)
            fill = max(i for i, n in enumerate(names) if n in ("Held_task.fill", "Held_task.add"))
            first = fill + names[fill:].index("Bar_None")
            named = [n.partition("Given_part.") for n in names[fill + 1 : first]]
            asked = [name for _, kind, name in named if kind]
            parts = asked or teller.parts
            starts = [i for i, n in enumerate(names) if n == "Bar_None" and i >= first]
            wish = _values([names[a + 1 :] for a in starts]).__getitem__
            if task == "infill":
                left = told.ids[names.index("Held_task.before") + 1 : fill]
                n_left, n_bars = left.count(teller.bar), len(starts) - 1
                if left[:1] != [teller.bos]:
                    continue  # a window that begins later is told without what comes before
                written = [parts] * n_bars
                request = infill.request(
                    teller, piece, n_left, n_left + n_bars, written, wish, room=10**6
                )
            else:
                if told.ids[0] != teller.bos:
                    continue
                request = accompany.request(teller, piece, parts, wish)
                n_bars = len(starts)
            given = request.prompt[:, 0].tolist()
            compared.append(task)
            assert given == told.ids[: len(given)]
            for k in range(1, n_bars):
                opening = request.opening(k)
                after = starts[k] + 1
                assert told.ids[after : after + len(opening)] == opening
                assert not told.given[after + len(opening)]
    assert set(compared) == set(tasks)


def test_a_continuation_is_asked_for_as_in_training(teller, piece, monkeypatch):
    monkeypatch.setattr("seqgen.tasks.telling.NO_CONTROLS", 0.0)
    for seed in range(12):
        told = continuation.arrange(teller, piece, 0, 100_000, np.random.default_rng(seed))
        names = names_of(teller, told.ids)
        starts = [i for i, n in enumerate(names) if n == "Bar_None"]
        values = _values([names[a + 1 :] for a in starts])
        empty = Passage((), begins=True, ends=False)
        request = continuation.request(teller, empty, values.__getitem__)
        assert request.prompt[:, 0].tolist() == [teller.bos, *told.ids[1 : len(request.prompt)]]
        for k, start in enumerate(starts):
            opening = request.opening(k)
            assert told.ids[start + 1 : start + 1 + len(opening)] == opening
            assert not told.given[start + 1 + len(opening)]


def test_a_mark_is_told_where_its_value_changes(teller):
    bars = [{"key": ["C"]}, {"key": ["C"]}, {"key": ["Am"]}, {}, {}, {"key": []}, {"key": ["Am"]}]
    told = [names_of(teller, teller.marks_of(bars.__getitem__, k)) for k in range(len(bars))]
    names = ("Held_key.C", None, "Held_key.Am", "Held_key.-", None, None, "Held_key.Am")
    assert told == [[name] if name else [] for name in names]


def test_any_number_of_controls_may_be_told(teller, piece):
    """Also one alone: that is what a person asks for most."""
    counts = set()
    for seed in range(200):
        told = continuation.arrange(teller, piece, 0, 200, np.random.default_rng(seed))
        names = names_of(teller, told.ids)
        counts.add(len({n.partition(".")[0] for n in names if n.startswith(("Given_", "Held_"))}))
    assert {0, 1, 2, len(teller.controls.names)} <= counts


def test_parts_that_are_not_asked_for_are_not_drawn(teller):
    empty = Passage((), begins=True, ends=False)
    request = continuation.request(teller, empty, lambda k: {}, parts=teller.parts[:1])
    forbidden = names_of(teller, request.forbidden)
    assert forbidden == [f"Part_{part}" for part in teller.parts[1:]]


def test_bars_begin_with_a_part_that_is_asked_for_where_the_first_of_all_is_not(teller):
    """A model that always begins bars with the first would leave them empty."""
    empty = Passage((), begins=True, ends=False)
    metre = teller.id_of["TimeSig_3/4"]
    for part in teller.parts[:2]:
        first = [f"Part_{part}"] if part != teller.parts[0] else []
        for head in ([], [metre]):
            options = {"head": head, "parts": [part]}
            request = continuation.request(teller, empty, lambda k: {}, **options)
            writing, given = Writing(request, request, teller.bar), []
            for token in (teller.bar, *([] if head else [metre])):
                writing.take(np.array([token]))
                given += writing.given()[:, 0].tolist()
            assert names_of(teller, given[len(head) :]) == first


def _values(bars):
    """The values of controls of bars whose names follow: those told there, and those in force."""
    found, held = [], {}
    for names in bars:
        told = {}
        for name in names:
            kind, _, value = name.partition("_")
            control, _, value = value.partition(".")
            if kind not in ("Given", "Held"):
                break
            if kind == "Held":
                held[control] = [value] if value != "-" else []
            else:
                told.setdefault(control, []).append(value)
        found.append(told | held)
    return found


def test_windows_are_a_function_of_their_seed_and_fit(teller, tokenizer, piece):
    shares = dict.fromkeys(known_tasks(tokenizer.config), 1.0)
    arranger = Arranger(teller, shares)
    differ = set()
    for seed in range(20):
        first, again = (
            arranger.arrange(piece, 0.5, 200, np.random.default_rng(seed)) for _ in range(2)
        )
        assert np.array_equal(first[0], again[0])
        assert np.array_equal(first[1], again[1])
        assert 1 < len(first[0]) == len(first[1]) <= 200
        differ.add(first[0].tobytes())
    assert len(differ) > 10
