"""The page in a real browser."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

import world

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
SCREENSHOTS = os.environ.get("CASCADE_SCREENSHOTS")
TIMEOUT_MS = world.PATIENCE_SECONDS * 1000

expect.set_options(timeout=TIMEOUT_MS)

MARKUP = "<img src=x onerror='window.injected = true'><b>bold</b>"
LETTERS = [
    ("sale-workload-dead-letter-queue", "the vendor answered 404 Not Found: no employee 7"),
    ("sale-workload-dead-letter-queue", "the vendor answered 404 Not Found: no employee 8"),
    ("employee-workload-dead-letter-queue", "the message's branch_id is no id: expected a string or an integer"),
    # What comes from the vendor may be anything.
    ("sale-function-dead-letter-queue", f"{MARKUP} is no sale"),
]


@pytest.fixture(scope="session")
def browser():
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CASCADE_BROWSER"], args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def steady(tmp_path_factory):
    """Data of three runs, with messages and dead letters that nobody works on: the figures stand still."""
    folder = tmp_path_factory.mktemp("steady")
    world.cascade("run", "--hours", "3", *world.SMALL, *world.START, data=folder / "data")
    serving = world.up(folder / "data", 0, "--no-schedule", log=folder / "up.log")
    serving.data = folder / "data"
    queues = world.Queues(serving.cloud)
    for employee_id in range(3):
        queues.send("sale-queue", {"employee_id": str(employee_id)})
    queues.receive("sale-queue")
    for queue, reason in LETTERS:
        queues.send(queue, {"run_id": "2026-11-21T03:00:00Z"}, reason)
    yield serving
    serving.end()


class Tab:
    """The page in a tab of its own, and whatever it asked for or complained about."""

    def __init__(self, browser, url, viewport=WIDE, **settings):
        self.context = browser.new_context(viewport=viewport, **settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.response = self.page.goto(url)

    def live(self):
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live")
        return self

    def letters_shown(self):
        expect(self.page.locator("#letters-figures tr")).to_have_count(3)
        return self

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def keep(self, name, full=True):
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{SCREENSHOTS}/{name}.png", full_page=full)

    def overflow(self):
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.fixture
def tab(browser):
    """Opens tabs, and closes them at the end."""
    tabs = []

    def open_tab(url, **settings):
        tabs.append(Tab(browser, url, **settings))
        return tabs[-1]

    yield open_tab
    for one in tabs:
        one.context.close()


def table(page, selector):
    """A table's rows, as texts, also where it is folded."""
    return page.locator(selector).evaluate("body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))")


def whole(number):
    return f"{number:,}"


def test_the_figures_are_those_of_the_status(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    status = json.loads(world.cascade("status", "--json", data=steady.data))
    assert [queue["depth"]["waiting"] for queue in status["queues"]] == [0, 2, 1, 2, 0, 0, 1]
    assert table(shown.page, "#tables") == [[one["name"], whole(one["rows"])] for one in status["tables"]]
    figures = [row[:4] for row in table(shown.page, "#queues")]
    assert figures == [
        [one["name"], *(whole(one["depth"][part]) for part in ("waiting", "in_flight", "delayed"))] for one in status["queues"]
    ]
    # And those that are drawn large are the same.
    for one, entity in zip(status["tables"], ("branch", "salesperson", "sale")):
        assert shown.text(f'[data-key="{entity}"] .rows b') == whole(one["rows"])
    assert shown.text('[data-key="sale-queue"] [data-figure="waiting"]') == "2"
    assert shown.text('[data-key="sale-queue"] [data-figure="in_flight"]') == "1"


def test_runs_branches_and_sales_are_those_of_the_runs(steady, tab):
    shown = tab(steady.url).live()
    last = json.loads(world.cascade("status", "--json", data=steady.data))["last_run"]
    expect(shown.page.locator("#run")).to_contain_text("is complete")
    runs = table(shown.page, "#runs-figures")
    assert [row[1] for row in runs] == ["complete"] * 3
    # The newest is first: inserted, updated, deleted, unchanged, skipped of each kind.
    for place, stage in enumerate(("branches", "salespersons", "sales")):
        counts = last["stages"][stage]
        found = runs[0][2 + 5 * place : 7 + 5 * place]
        assert [found[index] for index in (0, 1, 3, 4)] == [
            whole(counts[name]) for name in ("inserted", "updated", "unchanged", "skipped")
        ]
    assert len(table(shown.page, "#branches")) == 13
    expect(shown.page.locator("#freshness-lead")).to_contain_text("All 13 branches")
    sums = [int(row[-1].replace(",", "")) for row in table(shown.page, "#sales-figures")]
    inserted = [int(row[12].replace(",", "")) for row in runs]
    assert sum(sums) == sum(inserted) > 0


def test_dead_letters_are_shown_with_their_reasons(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    rows = table(shown.page, "#letters-figures")
    assert [row[0] for row in rows] == ["1", "2", "1"]
    assert "branch_id is no id" in rows[0][1] and "no employee …" in rows[1][1]
    expect(shown.page.locator("#attention-links")).to_contain_text("4 dead letters")
    expect(shown.page.locator("#letters-hint")).to_contain_text("cascade dlq redrive")


def test_what_the_vendor_says_is_shown_as_text(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    assert MARKUP in table(shown.page, "#letters-figures")[2][1]
    assert shown.page.locator("main :is(img, b b, td b, th b)").count() == 0
    assert shown.page.evaluate("window.injected") is None
    assert shown.complaints == []


def test_an_incomplete_run_says_why(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    figures = shown.context.request.get(f"{steady.url}snapshot.json").json()
    figures["runs"][-1] |= {"state": "incomplete", "names": [13, 14], "rejected": 2, "reasons": [f"{MARKUP} was answered 404"]}
    shown.page.route("**/events", lambda route: route.fulfill(content_type="text/event-stream", body=f"event: figures\ndata: {json.dumps(figures)}\n\n"))
    shown.page.reload()
    expect(shown.page.locator("#run")).to_contain_text("is incomplete: 13 of 14 names")
    links = shown.page.locator("#attention-links a")
    expect(links).to_have_text(["4 dead letters", "the newest run is incomplete", "2 records rejected"])
    reasons = shown.page.locator("#runs-reasons li")
    expect(reasons).to_have_text([f"Run 03:00 is incomplete: {MARKUP} was answered 404.", "“cascade rejected” lists the records that cannot be stored."])
    shown.keep("incomplete")


def test_it_updates_by_itself(steady, tab):
    shown = tab(steady.url).live()
    shown.page.evaluate("window.unchanged = true")
    waiting = shown.page.locator('[data-key="employee-queue"] [data-figure="waiting"]')
    expect(waiting).to_have_text("0")
    queues = world.Queues(steady.cloud)
    queues.send("employee-queue", {"branch_id": "1"})
    expect(waiting).to_have_text("1")
    queues.purge("employee-queue")
    expect(waiting).to_have_text("0")
    assert shown.page.evaluate("window.unchanged"), "it was loaded anew"


def test_a_run_begins_and_ends_before_ones_eyes(browser, tab, tmp_path):
    # An hour passes in twelve seconds.
    serving = world.up(tmp_path / "data", 0, "--speed", "300", *world.START, log=tmp_path / "up.log")
    try:
        shown = tab(serving.url).live()
        # Some of it is hidden on a phone, and still changes.
        phone = tab(serving.url, viewport=PHONE).live()
        shown.page.evaluate("window.unchanged = true")
        expect(shown.page.locator("#run")).to_contain_text("Run 01:00 UTC")
        expect(shown.page.locator("#run")).to_contain_text("is complete")
        expect(shown.page.locator('[data-key="sale"] .rows b')).to_have_text("130")
        shown.keep("first-run")
        expect(shown.page.locator("#run")).to_contain_text("Run 02:00 UTC")
        expect(shown.page.locator("#runs-figures tr")).to_have_count(2)
        expect(shown.page.locator("#quota-lead")).to_contain_text("requests in the last 60 s")
        expect(shown.page.locator("#announcement")).to_contain_text("run 02:00")
        assert shown.page.evaluate("window.unchanged"), "it was loaded anew"
        assert shown.complaints == [] and phone.complaints == []
        assert phone.overflow() <= 0
    finally:
        serving.end()


def test_it_survives_a_restart_of_the_server(tab, tmp_path):
    (port,) = world.free_ports(1)
    log = tmp_path / "up.log"
    serving = world.up(tmp_path / "data", port, "--no-schedule", *world.START, log=log)
    try:
        shown = tab(serving.url).live()
        expect(shown.page.locator("#run")).to_contain_text("No run yet")
        shown.keep("empty")
        shown.page.evaluate("window.unchanged = true")
        serving.end()
        expect(shown.page.locator("#connection")).to_contain_text("Not connected, trying again; figures")
        expect(shown.page.locator("#announcement")).to_contain_text("Not connected")
        shown.keep("not-connected", full=False)
        world.cascade("run", *world.SMALL, *world.START, data=tmp_path / "data")
        serving = world.up(tmp_path / "data", port, "--no-schedule", log=log)
        shown.live()
        expect(shown.page.locator('[data-key="sale"] .rows b')).to_have_text("130")
        assert shown.page.evaluate("window.unchanged"), "it was loaded anew"
    finally:
        serving.end()


def test_it_keeps_to_itself(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    host = urlsplit(steady.url).netloc
    assert {urlsplit(url).netloc for url in shown.requests} == {host}
    assert shown.complaints == []
    # What its policy forbids, the browser does not do.
    tried = tab(steady.url).live()
    blocked = tried.page.evaluate(
        """async (other) => {
            const violations = [];
            document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective));
            const script = document.createElement('script');
            try { script.text = 'window.injected = true'; } catch { violations.push('trusted-types'); }
            document.head.append(script);
            document.body.setAttribute('style', 'outline: 9px solid red');
            let reached = true;
            try { await fetch(other); } catch { reached = false; }
            await new Promise((done) => setTimeout(done));
            return { violations, reached, injected: Boolean(window.injected), outline: getComputedStyle(document.body).outlineWidth };
        }""",
        "http://127.0.0.1:9/",
    )
    assert not blocked["reached"] and not blocked["injected"] and blocked["outline"] != "9px", blocked
    assert "connect-src" in blocked["violations"], blocked


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_one_likes(steady, tab, scheme):
    shown = tab(steady.url, color_scheme=scheme).live().letters_shown()
    shown.keep(scheme)
    brightness = shown.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).reduce((sum, one) => sum + Number(one), 0)"
    )
    assert (brightness > 3 * 200) if scheme == "light" else (brightness < 3 * 60)
    assert shown.overflow() <= 0


def test_on_a_phone_nothing_has_to_be_pushed_sideways(steady, tab):
    shown = tab(steady.url, viewport=PHONE).live().letters_shown()
    shown.keep("phone")
    assert shown.overflow() <= 0
    for summary in shown.page.locator("summary").all():
        summary.click()
    assert shown.overflow() <= 0
    # One column: every section begins at the same place.
    lefts = shown.page.locator("main > section").evaluate_all("all => all.map(one => Math.round(one.getBoundingClientRect().left))")
    assert len(set(lefts)) == 1
    shown.keep("phone-unfolded")


@pytest.mark.parametrize("width", [768, 1001, 1100, 1201])
def test_at_any_width_words_stay_in_their_cards(steady, tab, width):
    shown = tab(steady.url, viewport={"width": width, "height": 800}).live().letters_shown()
    assert shown.overflow() <= 0
    outside = shown.page.locator(".pipeline li, main > section").evaluate_all(
        """cards => cards.flatMap((card) => {
            const { left, right } = card.getBoundingClientRect();
            const words = [...card.querySelectorAll('dt, dd, p, h2, h3, figcaption, summary')];
            const box = (one) => { const range = document.createRange(); range.selectNodeContents(one); return range.getBoundingClientRect(); };
            return words.filter((one) => one.checkVisibility() && (box(one).right > right || box(one).left < left)).map((one) => one.textContent);
        })"""
    )
    assert outside == []
    shown.keep(f"width-{width}")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    page = shown.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "pipeline"
    for summary in page.locator("summary").all():
        summary.focus()
        page.keyboard.press("Enter")
    expect(page.locator("details[open]")).to_have_count(page.locator("details").count())
    wanted = page.evaluate(
        """() => {
            const all = [...document.querySelectorAll('a[href], summary, [tabindex="0"]')];
            return all.filter((one) => one.checkVisibility()).map((one, index) => { one.dataset.reach = index; return String(index); });
        }"""
    )
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    page.locator(".skip").focus()
    reached = []
    for _ in wanted:
        focus = page.evaluate(
            """() => {
                const one = document.activeElement;
                const { outlineStyle, outlineWidth } = getComputedStyle(one);
                return [one.dataset.reach, outlineStyle, parseFloat(outlineWidth)];
            }"""
        )
        assert focus[1] == "solid" and focus[2] >= 2, f"it is not seen where the focus is: {focus}"
        reached.append(focus[0])
        page.keyboard.press("Tab")
    assert reached == wanted
    page.locator("summary").first.focus()
    shown.keep("focus", full=False)


def test_an_opened_table_and_the_focus_stay_when_figures_change(steady, tab):
    shown = tab(steady.url).live()
    summary = shown.page.locator("#pipeline summary")
    summary.focus()
    shown.page.keyboard.press("Enter")
    queues = world.Queues(steady.cloud)
    queues.send("employee-queue", {"branch_id": "1"})
    expect(shown.page.locator("#queues tr").first.locator("td").first).to_have_text("1")
    queues.purge("employee-queue")
    expect(shown.page.locator("#queues tr").first.locator("td").first).to_have_text("0")
    assert shown.page.evaluate("document.activeElement.localName") == "summary"
    expect(shown.page.locator("#pipeline details")).to_have_attribute("open", "")


def test_every_chart_is_named_and_has_its_figures_in_words(steady, tab):
    shown = tab(steady.url).live().letters_shown()
    charts = shown.page.locator('svg[role="img"]').evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert len(charts) > 20 and all(charts), charts
    unnamed = shown.page.locator("main svg:not([role]):not([aria-hidden])").count()
    assert unnamed == 0
    for section in ("quota", "runs", "sales"):
        assert shown.page.locator(f"#{section} details table").count() == 1, section


@pytest.mark.skipif("AXE" not in os.environ, reason="axe-core is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_serious(steady, tab, scheme, viewport):
    # Its own code is not the page's, and is let in past the page's policy.
    shown = tab(steady.url, viewport=viewport, color_scheme=scheme, bypass_csp=True).live().letters_shown()
    for summary in shown.page.locator("summary").all():
        summary.click()
    shown.page.evaluate(Path(os.environ["AXE"]).read_text(encoding="utf-8"))
    found = shown.page.evaluate("axe.run({ resultTypes: ['violations', 'incomplete'] })")
    assert len(found["passes"]) > 20, "it has looked at something"
    said = [f"{one['impact']}: {one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]
    serious = [line for line in said if line.startswith(("serious", "critical"))]
    assert serious == [], "\n".join(said)
    for line in said:
        print(line)


def test_motion_is_left_out_where_it_is_not_wanted(steady, tab):
    shown = tab(steady.url, reduced_motion="reduce").live()
    moving = shown.page.evaluate(
        """[...document.querySelectorAll('*')].filter((one) => {
            const { transitionDuration, animationName } = getComputedStyle(one);
            return animationName !== 'none' || transitionDuration.split(',').some((time) => parseFloat(time) > 0);
        }).length"""
    )
    assert moving == 0


def test_beyond_loopback_the_address_holds_a_token_only_until_the_page_is_open(steady, tab, tmp_path):
    serving = world.Serving("dashboard", "--bind", "0.0.0.0", "--port", "0", data=steady.data, log=tmp_path / "dashboard.log")
    try:
        shown = tab(serving.url).live()
        assert "token=" in serving.url and "token" not in shown.page.url
        plain = serving.url.split("?")[0]
        stranger = tab(plain)
        assert stranger.response.status == 401
        assert "needs its token" in stranger.page.inner_text("body")
        # The cookie is not the page's to read, and opens it again.
        assert shown.page.evaluate("document.cookie") == ""
        shown.page.goto(plain)
        shown.live()
    finally:
        serving.end()
