"""The page in Chromium, as a musician uses it: play, branch, undo, rewrite, bring files."""

import json
import re
import urllib.request

import pytest

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=120_000)

NOTES = re.compile(r"[1-9]\d* notes")


def api(server, page, path=""):
    """What the server says of the page's project."""
    project = page.url.partition("#")[2]
    with urllib.request.urlopen(f"{server.address}api/projects/{project}{path}") as answer:
        return json.load(answer)


def is_change(response):
    """Whether the server has answered a change of the project."""
    return response.request.method == "PATCH"


def versions_of(server, page):
    return api(server, page)["versions"]


def begin(page):
    """Begin a project with the first model."""
    page.get_by_role("button", name="Begin from nothing").click()
    expect(page.locator("#roll")).to_be_visible()
    return page


def write(page, *, versions=1, bars=3):
    """Let the panel write, and wait until all is written."""
    page.get_by_role("spinbutton", name="Bars", exact=True).fill(str(bars))
    page.get_by_role("spinbutton", name="Versions").fill(str(versions))
    page.get_by_label("Seed").fill("1")
    before = page.locator(".node").count()
    page.locator("#write").click()
    expect(page.locator(".node")).to_have_count(before + versions)
    expect(page.locator(".dot.writing")).to_have_count(0)
    expect(page.locator("#roll")).to_have_attribute("aria-label", NOTES)


def begun(page, **how):
    begin(page)
    write(page, **how)
    return page


def bring(page, name, content):
    page.locator("summary", has_text="Files").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Bring a MIDI file").click()
    chooser.value.set_files({"name": name, "mimeType": "audio/midi", "buffer": content})
    page.get_by_role("button", name="Bring it in").click()


def point_of_bar(page, line):
    """Where a bar line of a piece in 4/4 is in the ruler, before it is zoomed or scrolled."""
    box = page.locator("#roll").bounding_box()
    return box["x"] + 46 + 26 * 4 * line, box["y"] + 15


def test_plays_what_it_writes(open_page):
    page = begin(open_page(soundfont=True))
    page.locator("#play").click()  # from nothing: it writes and plays
    expect(page.locator("#play")).not_to_have_attribute("data-notes", "0")
    expect(page.locator("#place")).not_to_have_text("1 : 1")  # time goes on
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_keeps_one_of_four_and_undoes(open_page, server):
    page = begun(open_page())
    write(page, versions=4)
    cards = page.locator(".card")
    expect(cards).to_have_count(4)
    expect(cards.nth(3)).to_contain_text("bits per note")
    cards.nth(1).get_by_role("button", name="Hear 2").click()
    expect(page.get_by_role("button", name="Stop", exact=True).first).to_be_visible()
    cards.nth(3).get_by_role("button", name="Drop 4").click()
    expect(cards).to_have_count(3)
    cards.nth(1).get_by_role("button", name="Keep 2").click()
    expect(cards).to_have_count(0)
    kept = api(server, page)["current"]
    [first] = [version["id"] for version in versions_of(server, page) if not version["parent"]]
    with page.expect_response(is_change):
        page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    assert api(server, page)["current"] == first
    with page.expect_response(is_change):
        page.keyboard.press("Control+Shift+Z")
    expect(page.get_by_role("button", name="Redo")).to_be_disabled()
    assert api(server, page)["current"] == kept


def test_branches_where_a_bar_line_is_clicked(open_page, server, song):
    page = begin(open_page())
    bring(page, "song.mid", song.read_bytes())
    expect(page.locator("#roll")).to_have_attribute("aria-label", NOTES)
    page.get_by_role("spinbutton", name="Versions").fill("2")
    page.mouse.click(*point_of_bar(page, 2))
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".dot.writing")).to_have_count(0)
    branches = [version for version in versions_of(server, page) if version["parent"]]
    assert [branch["from_bar"] for branch in branches] == [2, 2]


def test_rewrites_the_selected_bars_and_leaves_protected_tracks(open_page, server, song):
    page = begin(open_page())
    bring(page, "song.mid", song.read_bytes())
    expect(page.locator("#roll")).to_have_attribute("aria-label", NOTES)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_role("toolbar", name="Selected bar 2")).to_be_visible()
    page.get_by_role("toolbar").get_by_role("button", name="Rewrite").click()
    drums = page.locator(".tracks li", has_text="Drums")
    drums.get_by_role("checkbox").check()
    page.get_by_role("spinbutton", name="Versions").fill("1")
    page.locator("#write").click()
    expect(page.locator(".node")).to_have_count(2)
    expect(page.locator(".dot.writing")).to_have_count(0)
    [new] = [version for version in versions_of(server, page) if version["parent"]]
    assert new["status"] == "done"
    assert new["request"]["rewrite"] == "2-2"
    assert "drums" not in new["request"]["tracks"]
    assert new["request"]["tracks"]


def test_says_what_is_wrong_with_a_file_and_reports_a_good_one(open_page, song):
    page = begin(open_page())
    open_page.watch.server_may_be_lost = True  # a refusal is a failed request
    bring(page, "bad.mid", b"this is no music")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(re.compile("MIDI|file"))
    alert.get_by_role("button", name="Dismiss").click()
    expect(alert).to_have_count(0)
    bring(page, "song.mid", song.read_bytes())
    expect(page.locator(".notice")).to_contain_text("song.mid")
    expect(page.locator("#roll")).to_have_attribute("aria-label", re.compile("4 bars, .*notes"))
    write(page)
    expect(page.locator(".legend")).to_contain_text("written")


def test_goes_on_after_a_reload(open_page, server):
    page = begun(open_page())
    page.get_by_label("Name of the project").fill("Evening")
    page.keyboard.press("Enter")
    before = page.locator("#roll").get_attribute("aria-label")
    expect(page.locator(".node")).to_have_count(1)
    page.reload()
    expect(page.locator("#roll")).to_have_attribute("aria-label", before)
    expect(page.get_by_label("Name of the project")).to_have_value("Evening")
    write(page)
    assert len(versions_of(server, page)) == 2


def test_two_pages_see_the_same_project(open_page):
    page = begun(open_page())
    other = open_page("#" + page.url.partition("#")[2])
    expect(other.locator(".node")).to_have_count(1)
    write(page, versions=2)
    expect(other.locator(".node")).to_have_count(3)
    expect(other.locator(".dot.writing")).to_have_count(0)


def test_goes_on_when_the_server_is_back(open_page, server):
    page = begun(open_page())
    open_page.watch.server_may_be_lost = True
    server.kill()
    expect(page.locator(".banner")).to_be_visible()
    page.locator("#play").click()  # what is there still plays
    expect(page.locator("#play")).not_to_have_attribute("data-notes", "0")
    page.locator("#write").click()
    expect(page.get_by_role("alert").last).to_contain_text("does not answer")
    server.start()
    expect(page.locator(".banner")).to_have_count(0)
    write(page)
    assert len(versions_of(server, page)) == 2


def test_notes_are_drawn_and_moved_by_hand(open_page, server):
    page = begun(open_page())
    page.locator("#roll").focus()
    page.keyboard.press("e")
    box = page.locator("#roll").bounding_box()
    page.mouse.click(box["x"] + 46 + 26 * 5, box["y"] + 40)
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Save as a version").click()
    expect(page.locator(".node")).to_have_count(2)
    before, after = versions_of(server, page)
    assert after["origin"] == "edit"
    assert after["n_notes"] == before["n_notes"] + 1


def test_a_piece_is_drawn_from_nothing_in_tracks_that_are_added(open_page, server):
    page = begin(open_page())
    page.get_by_role("button", name="Draw notes").click()
    box = page.locator("#roll").bounding_box()
    page.mouse.click(box["x"] + 46 + 26 * 5, box["y"] + 200)
    page.get_by_label("Add a track").select_option(label="Violin")
    page.mouse.click(box["x"] + 46 + 26 * 15, box["y"] + 240)
    page.get_by_role("button", name="Save as a version").click()
    expect(page.locator(".node")).to_have_count(1)
    [version] = versions_of(server, page)
    piece = api(server, page, f"/versions/{version['id']}")["piece"]
    assert [track["program"] for track in piece["tracks"]] == [0, 40]
    assert [note["start"] for note in piece["notes"]] == [5, 15]


def test_shows_every_setting_of_the_server_and_sends_what_was_set(open_page, server):
    page = begin(open_page())
    with urllib.request.urlopen(f"{server.address}api/runs/band") as answer:
        settings = json.load(answer)["settings"]
    groups = page.locator(".compose .settings summary")
    expect(groups).to_have_count(2)
    for group in groups.all():
        group.click()
    for setting in settings:
        expect(page.locator(f"#setting-{setting['name']}")).to_be_visible()
    page.locator("#setting-temperature").fill("0.7")
    page.locator("#setting-key").select_option(index=1)
    write(page, versions=2)
    for card in page.locator(".card").all():
        expect(card.locator(".finding", has_text="key")).to_be_visible()
    page.get_by_label("Draw more and keep what fits best").uncheck()
    write(page, versions=2)
    best, *_, any_two = [version["request"] for version in versions_of(server, page)]
    assert best["sampling"] == {"temperature": 0.7}
    assert list(best["asked"]) == ["key"]
    assert (best["alternatives"], any_two["alternatives"]) == (None, 2)


def test_keeps_key_and_instruments_unless_they_are_left_open(open_page, server, song):
    page = begin(open_page())
    expect(page.get_by_role("group", name="Keep from the bars before")).to_have_count(0)
    bring(page, "song.mid", song.read_bytes())
    expect(page.locator("#roll")).to_have_attribute("aria-label", NOTES)
    write(page)
    page.get_by_label("key", exact=True).uncheck()
    page.locator("summary", has_text="What you ask for").click()
    expect(page.locator("#setting-key")).to_have_value("-")
    expect(page.locator("#setting-instruments")).to_contain_text("as before")
    expect(page.get_by_label("Draw more and keep what fits best")).to_have_count(0)
    write(page)
    _, kept, opened = versions_of(server, page)
    assert (kept["request"]["asked"], opened["request"]["asked"]) == ({}, {"key": "-"})
    assert [finding["what"] for finding in kept["findings"]] == ["bars", "key", "instruments"]
    assert [finding["what"] for finding in opened["findings"]] == ["bars", "instruments"]


def test_dropping_what_is_shown_shows_the_next_of_those_side_by_side(open_page):
    page = begun(open_page(), versions=3)
    expect(page.locator(".card")).to_have_count(3)
    page.locator("#roll").focus()
    page.keyboard.press("2")
    page.keyboard.press("x")
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".card.shown")).to_have_count(1)


def test_adds_a_part_that_does_not_play_yet(open_page, server):
    page = begin(open_page())
    page.get_by_role("button", name="Draw notes").click()
    box = page.locator("#roll").bounding_box()
    page.mouse.click(box["x"] + 46 + 26 * 5, box["y"] + 200)
    page.get_by_role("button", name="Save as a version").click()
    expect(page.locator(".node")).to_have_count(1)
    page.get_by_role("button", name="Add a part").click()
    expect(page.locator(".amounts select")).to_have_value("33")
    page.get_by_role("spinbutton", name="Versions").fill("1")
    page.locator("#write").click()
    expect(page.locator(".node")).to_have_count(2)
    expect(page.locator(".dot.writing")).to_have_count(0)
    [new] = [version for version in versions_of(server, page) if version["parent"]]
    assert (new["request"]["add"], new["status"]) == (["33"], "done")


def test_answers_what_is_played_on_the_keys(open_page):
    page = begin(open_page())
    page.locator("summary", has_text="Play with it").click()
    page.get_by_label("Bars each").fill("1")
    page.locator(".live").get_by_label("Tempo").fill("200")
    page.get_by_role("button", name="Start playing").click()
    expect(page.locator(".turn.yours")).to_be_visible()
    with page.expect_request("**/api/live") as asked:
        while not page.locator(".turn.answer, .turn.thinking").count():
            page.keyboard.press("d", delay=100)
    request = asked.value.post_data_json
    assert request["stream"]
    assert {note["pitch"] for note in request["notes"]} == {64}
    expect(page.locator(".live")).to_contain_text(re.compile(r"came \d+ ms after"))
    page.locator(".live").get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Keep what was played").click()
    expect(page.locator(".node")).to_have_count(1)


def test_a_saved_project_is_opened_again(open_page, server, tmp_path):
    page = begun(open_page())
    page.locator("#roll").focus()
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    saved = tmp_path / "saved.seqgen"
    download.value.save_as(saved)
    address = page.url
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Control+o")
    chooser.value.set_files(saved)
    expect(page).not_to_have_url(address)
    expect(page.locator(".node")).to_have_count(1)
    expect(page.locator("#roll")).to_have_attribute("aria-label", NOTES)


def test_shows_what_surprised_the_model(open_page):
    page = begun(open_page())
    page.get_by_role("button", name="Surprise").click()
    expect(page.locator(".legend")).to_contain_text("surprising")


def test_fits_narrow_and_wide_screens(open_page):
    page = begun(open_page(), versions=4)
    expect(page.locator(".card")).to_have_count(4)
    page.get_by_role("button", name="Edit notes").click()
    for width in (390, 1600):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and help")).to_be_visible()
