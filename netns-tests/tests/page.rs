//! The page in a real browser: what it shows of real traffic, and what a click or a key does.

use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{Browser, Lab, Pod, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PAGE: &str = "http://127.0.0.1:4240/";

struct Cluster {
    lab: Lab,
    _api: Pod,
    web: Pod,
    stranger: Pod,
}

/// The pods and the policy of the tutorial, with traffic that is allowed and some that is not.
fn cluster() -> Option<Cluster> {
    let lab = Lab::new("")?;
    let api = lab.pod(
        "backend/api",
        &["app=backend"],
        &["10.0.1.10", "fd00:10:1::10"],
    );
    let web = lab.pod(
        "frontend/web",
        &["app=frontend"],
        &["10.0.1.11", "fd00:10:1::11"],
    );
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    api.serve_pages();
    lab.start_daemon();
    let policies = format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}");
    lab.apply("policies.yaml", &policies);
    let cluster = Cluster {
        lab,
        _api: api,
        web,
        stranger,
    };
    cluster.talk();
    Some(cluster)
}

impl Cluster {
    /// The only link from `web` to port 80 of `api`, as the page is told of it.
    fn link(&self) -> Value {
        let map = self.lab.node.must(&format!("curl -sSf {PAGE}api/map"));
        let map: Value = serde_json::from_str(&map).expect("JSON");
        let id = |name| {
            let places = map["places"].as_array().expect("a list");
            places
                .iter()
                .find(|place| place["name"] == name)
                .expect("it is there")["id"]
                .clone()
        };
        let ends = [id("web"), id("api")];
        let links = map["links"].as_array().expect("a list").iter();
        let mut links = links.filter(|link| {
            [&link["from"], &link["to"]] == [&ends[0], &ends[1]] && link["port"] == 80
        });
        let link = links.next().expect("they talk");
        assert_eq!(links.next(), None);
        link.clone()
    }

    /// How the connections of the link ended, as `observe` tells it.
    fn ends(&self) -> Vec<Value> {
        let words = "-o json --endings --to-port 80 --from-pod frontend/web";
        let told = self.lab.observe(words);
        let flows = told
            .lines()
            .map(|line| -> Value { serde_json::from_str(line).expect("JSON") });
        flows.filter(|flow| flow["ending"] == "finished").collect()
    }

    /// Bytes that they have told, of the side that began first; once there are so many.
    fn ended(&self, count: usize) -> [u64; 2] {
        let mut sums = [0; 2];
        eventually("all connections have ended", || {
            let ended = self.ends();
            sums = [0, 1].map(|side| {
                let bytes = |flow: &Value| flow["totals"]["bytes"][side].as_u64();
                ended.iter().filter_map(bytes).sum()
            });
            ended.len() == count
        });
        sums
    }

    fn talk(&self) {
        assert!(self.web.fetch("http://10.0.1.10/").is_some());
        assert!(self.stranger.gets_nothing("http://10.0.1.10/"));
        assert!(self.web.gets_nothing("http://10.0.1.10:8080/"));
    }
}

/// That nothing went wrong in the page, not even what nobody saw.
#[track_caller]
fn assert_content(browser: &Browser<'_>) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn cards(browser: &Browser<'_>) {
    browser.await_script(
        "return ['api', 'stranger', 'web'].filter(name => \
         document.querySelector(`.card.workload[data-name=${name}]`))",
        &json!(["api", "stranger", "web"]),
    );
}

fn pair(of: &Value) -> [u64; 2] {
    [0, 1].map(|side| of[side].as_u64().expect("a number"))
}

const SOURCES: &str = "return [...new Set([...document.querySelectorAll('.lines .cell.source')]\
                       .map(cell => cell.textContent))]";

#[test]
fn the_map_shows_who_was_denied_a_click_filters_and_the_panel_names_the_rule() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    browser.open(PAGE);
    cards(&browser);
    browser.await_script(
        "return [...document.querySelectorAll('.edge')].map(edge => \
         `${edge.dataset.from} ${edge.dataset.to} ${edge.dataset.verdict}`)\
         .filter(edge => edge.endsWith('dropped') && edge.includes(' api ')).sort()",
        &json!(["stranger api dropped", "web api dropped"]),
    );
    let style = browser.script(
        "return getComputedStyle(document.querySelector('.edge.dropped .curve')).strokeDasharray",
    );
    assert_ne!(style, json!("none"), "told by more than its colour");
    browser.picture("map-light");

    browser.click(".card[data-name=stranger]");
    browser.await_script(SOURCES, &json!(["frontend/stranger"]));
    let address = browser.script("return decodeURIComponent(location.search)");
    assert_eq!(address, json!("?filter=workload=frontend/stranger"));

    browser.click(".lines .line.dropped");
    let panel = "return document.querySelector('#why').innerText";
    browser.await_script(
        "return document.querySelector('#why').hidden",
        &json!(false),
    );
    let text = browser.script(panel);
    let text = text.as_str().expect("text");
    for part in [
        "policy_denied",
        "backend/allow-frontend",
        "ingress[0]",
        "policies.yaml, document 2",
        "backend/default-deny",
        "Nearest rule",
        "source has label app=batch, not frontend",
        "10.0.1.12",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    browser.picture("why-light");
    assert_content(&browser);
}

#[test]
fn flows_come_by_themselves_and_keys_do_what_clicks_do() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    browser.open(&format!(
        "{PAGE}?view=flows&filter=verdict%3DFORWARDED+to%3Aport%3D80"
    ));
    let count = "return document.querySelectorAll('.lines .line').length";
    browser.await_script(count, &json!(1));
    cluster.talk();
    browser.await_script(count, &json!(2));
    assert_eq!(browser.script(SOURCES), json!(["frontend/web"]));

    browser.press("/");
    let focus = "return document.activeElement.id";
    assert_eq!(browser.script(focus), json!("word"));
    browser.press("from:color=red\u{e007}");
    let fault = browser.script("return document.querySelector('#fault').textContent");
    assert!(
        fault
            .as_str()
            .is_some_and(|text| text.contains("key=value")),
        "{fault}"
    );
    browser.press("\u{e00c}");

    let _ = browser.script("document.querySelector('#flows .body').focus()");
    browser.press("\u{e015}\u{e007}");
    browser.await_script(
        "return document.querySelector('#why').hidden",
        &json!(false),
    );
    let text = browser.script("return document.querySelector('#why').innerText");
    assert!(
        text.as_str()
            .is_some_and(|text| text.contains("The rule that allowed it")),
        "{text}"
    );
    browser.press("\u{e00c}");
    browser.await_script("return document.querySelector('#why').hidden", &json!(true));
    assert_content(&browser);
}

#[test]
fn policies_tell_whom_they_select_and_dark_is_dark() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    browser.open(PAGE);
    cards(&browser);
    browser.click("#theme");
    browser.click("#theme");
    let is_dark = "return getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.script(is_dark), json!("rgb(14, 19, 26)"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    browser.picture("map-dark");
    browser.click("nav button[data-view=policies]");
    let rows = "return [...document.querySelectorAll('#policies tbody tr')].map(row => \
                row.querySelector('.strong').textContent + ' ' + \
                (row.querySelector('.selects')?.innerText ?? '').replace(/\\s+/g, ' '))";
    browser.await_script(
        rows,
        &json!([
            "backend/allow-frontend ingress of backend/api",
            "backend/default-deny ingress of backend/api"
        ]),
    );
    let hits: Value = browser.script("return document.querySelector('.rules li').innerText");
    assert!(
        hits.as_str().is_some_and(|text| text.contains("hit")),
        "{hits}"
    );
    browser.picture("policies-dark");
    assert_content(&browser);
}

/// Numbers of flows begin anew with the daemon, and a browser may have been left open.
#[test]
fn a_page_that_stayed_open_tells_the_flows_of_a_daemon_that_was_started_again() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    for _ in 0..5 {
        cluster.talk();
    }
    browser.open(&format!("{PAGE}?filter=to%3Aport%3D80"));
    let lines = "return document.querySelectorAll('.lines .line').length";
    let pulse = "return document.querySelector('#pulse span').textContent";
    browser.await_script(&format!("{lines} > 10"), &json!(true));
    browser.await_script(pulse, &json!("● live"));
    cluster.lab.stop_daemon();
    browser.await_script(pulse, &json!("○ reconnecting"));
    // Asked while nobody answers.
    browser.click("[data-verdict=FORWARDED]");
    browser.await_script(lines, &json!(0));
    cluster.lab.start_daemon();
    browser.await_script(pulse, &json!("● live"));
    cluster.talk();
    browser.await_script(&format!("{lines} > 0"), &json!(true));
    browser.await_script(SOURCES, &json!(["frontend/web"]));
    browser.await_script(
        "return document.querySelector('#fault').textContent",
        &json!(""),
    );

    // And when nothing is asked meanwhile.
    browser.click("[data-verdict='']");
    cluster.lab.stop_daemon();
    browser.await_script(pulse, &json!("○ reconnecting"));
    cluster.lab.start_daemon();
    let number =
        "return [...document.querySelectorAll('.lines .line')].map(line => line.dataset.number)";
    browser.await_script(pulse, &json!("● live"));
    cluster.talk();
    let kept = || {
        let asked = format!("curl -sSf {PAGE}api/flows?filter=to:port%3D80&limit=500");
        let told: Value = serde_json::from_str(&cluster.lab.node.must(&asked)).expect("JSON");
        let rows = told["rows"].as_array().expect("a list").iter();
        let numbers = rows.map(|row| json!(row["number"].to_string()));
        Value::Array(numbers.collect())
    };
    eventually("the table is that of the daemon", || {
        let shown = browser.script(number);
        shown != json!([]) && shown == kept()
    });
}

/// Whatever is in an address came with a link from a stranger.
#[test]
fn what_a_wrong_address_asks_for_is_told_as_text_and_the_page_works_on() {
    let Some(cluster) = cluster() else { return };
    let hostile = "<img src=x onerror=window.hacked=1>";
    let named = DEFAULT_DENY.replace("name: default-deny", "name: another");
    cluster.lab.apply(&format!("{hostile}.yaml"), &named);
    let browser = Browser::start(&cluster.lab);
    let heads =
        "return [...document.querySelectorAll('.line.head .cell')].map(cell => cell.textContent)";
    let usual = json!([
        "Time",
        "Source",
        "Destination",
        "Port",
        "Protocol",
        "Verdict",
        "Direction",
        "Reason",
        "Policy"
    ]);
    browser.open(&format!(
        "{PAGE}?columns=none,%3Cb%3E&view=nowhere&edge=%3Cimg%20src=x%3E&flow=x"
    ));
    cards(&browser);
    browser.await_script(heads, &usual);
    browser.open(&format!(
        "{PAGE}?columns=time,tcp_flags&filter=tcp-flag%3DSYN+to%3Aport%3D80"
    ));
    browser.await_script(heads, &json!(["Time", "TCP flags"]));
    browser.await_script(
        "return [...new Set([...document.querySelectorAll('.lines .tcp_flags')].map(cell => cell.textContent))]",
        &json!(["SYN"]),
    );
    assert_content(&browser);
    browser.open(&format!(
        "{PAGE}?filter=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E+ns%3Dbackend"
    ));
    let fault = "return document.querySelector('#fault').textContent.includes('found \"<img\"')";
    browser.await_script(fault, &json!(true));
    browser.click("#words li button");
    browser.open(&format!("{PAGE}?view=policies"));
    let files = format!(
        "return [...document.querySelectorAll('#policies .file')].some(file => file.textContent.includes('{hostile}'))"
    );
    browser.await_script(&files, &json!(true));
    let found = "return [window.hacked ?? null, document.querySelectorAll('main img').length]";
    assert_eq!(browser.script(found), json!([null, 0]));
}

#[test]
fn in_a_narrow_window_all_that_can_be_pressed_is_in_reach() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    browser.resize(500, 900);
    browser.open(PAGE);
    cards(&browser);
    let out = "return [...document.querySelectorAll('.bar button, .filter button, .filter input, .tools button, #pulse')]\
               .filter(node => node.checkVisibility())\
               .filter(node => { const box = node.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth; })\
               .map(node => node.id || node.textContent)";
    browser.await_script(out, &json!([]));
    browser.click(".chooser > button");
    browser.picture("narrow-light");
    assert_eq!(browser.script(out), json!([]));
    // The table is wider than the window, and its heads go with it.
    browser.await_script(
        "const grid = document.querySelector('.grid'); grid.scrollLeft = 200; \
         const left = selector => document.querySelector(selector).getBoundingClientRect().left; \
         return [grid.scrollWidth > grid.clientWidth, Math.abs(left('.line.head :nth-child(4)') - left('.lines .port')) < 2]",
        &json!([true, true]),
    );
    assert_content(&browser);
}

/// Twelve namespaces of which each calls all others: no line of them is the right one.
#[test]
fn namespaces_that_all_call_one_another_do_not_stand_in_one_thin_line() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    browser.open(PAGE);
    let size = browser.script(
        "return import('/page/layout.js').then(({ layout }) => { \
           const cards = [...Array(12).keys()].map(at => ({ key: `k${at}`, group: `ns/${at}` })); \
           const edges = cards.flatMap(from => cards.map(to => ({ from, to }))); \
           const all = layout(cards, edges, { width: 1440, height: 420 }); \
           const chain = layout(cards.slice(0, 4), [0, 1, 2].map(at => ({ from: cards[at], to: cards[at + 1] })), \
             { width: 1440, height: 420 }); \
           return [Math.min(1440 / all.width, 420 / all.height), all.cards.size, \
             new Set([...chain.cards.values()].map(spot => spot.x)).size]; \
         })",
    );
    assert!(size[0].as_f64() > Some(0.5), "{size}");
    // A chain that fits is not folded.
    assert_eq!((&size[1], &size[2]), (&json!(12), &json!(4)));
}

/// Sixteen MiB twice: once at once, and once so slowly that it is told of while it goes on.
#[test]
fn an_edge_tells_what_passed_and_tells_it_once_and_its_rates_sink_to_nothing() {
    let Some(cluster) = cluster() else { return };
    let browser = Browser::start(&cluster.lab);
    browser.open(PAGE);
    cards(&browser);
    let fetch = |limit: &str| {
        let line = format!("curl -sSf {limit} -o /dev/null http://10.0.1.10/big");
        assert!(cluster.web.run(&line).is_success);
    };
    let size = Pod::big_page().len() as u64;
    // Headers of IP and TCP, and what is sent again: below a tenth. Acknowledgements the other way.
    let is_told = |[sent, answered]: [u64; 2], times: u64| {
        (times * size..times * size * 11 / 10).contains(&answered) && sent < times * size / 10
    };
    fetch("");
    let first = cluster.ended(2);
    assert!(is_told(first, 1), "{first:?}");
    eventually("the map has counted it", || {
        pair(&cluster.link()["bytes"]) == first
    });
    let edge = "return document.querySelector('.edge.forwarded[data-from=web]').ariaLabel";
    browser.await_script(
        &format!("{edge}.match(/[0-9.]+ MB[/]s/) !== null"),
        &json!(true),
    );
    browser.picture("busy-light");

    // Else most of it would be on its way to who reads slowly, and the connection at its end.
    let small = "net.ipv4.tcp_rmem=4096 131072 131072";
    assert!(
        cluster
            .web
            .place
            .run_words(&["sysctl", "-q", "-w", small])
            .is_success
    );
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| fetch("--limit-rate 700k"));
        let mut steps = vec![first];
        while !slow.is_finished() {
            let bytes = pair(&cluster.link()["bytes"]);
            if steps.last() != Some(&bytes) {
                steps.push(bytes);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        // What was told of it while it went on was part of the whole.
        assert!(
            steps.is_sorted() && (2..=4).contains(&steps.len()),
            "{steps:?}"
        );
        let gone_on = steps[steps.len() - 1][1] - first[1];
        assert!((size / 10..size * 11 / 10).contains(&gone_on), "{steps:?}");
    });
    let whole = cluster.ended(3);
    assert!(is_told(whole, 2), "{whole:?}");
    eventually("the map has counted it", || {
        pair(&cluster.link()["bytes"]) == whole
    });
    let ended = Instant::now();
    assert!(cluster.link()["rates"]["bytes"].as_f64() > Some(100_000.0));
    // Of the last minute, in steps of five seconds.
    let still =
        json!({"connections": 0.0, "audited": 0.0, "dropped": 0.0, "packets": 0.0, "bytes": 0.0});
    while cluster.link()["rates"] != still {
        assert!(
            ended.elapsed() < Duration::from_secs(70),
            "{}",
            cluster.link()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(pair(&cluster.link()["bytes"]), whole);
    let total = (whole[0] + whole[1]) as f64 / 1e6;
    let told = format!("web to api, forwarded: 80/TCP · 3 conn · {total:.1} MB");
    browser.await_script(edge, &json!(told));
    browser.await_script(
        "return [...document.querySelectorAll('.words.forwarded text')].map(text => text.textContent)",
        &json!([format!("80/TCP · 3 conn · {total:.1} MB")]),
    );
    assert_content(&browser);
}

#[test]
fn what_a_connection_passed_before_policy_cut_it_is_on_its_edge_once() {
    let Some(cluster) = cluster() else { return };
    let before = cluster.ended(1);
    let received = || cluster.web.counter("IpExtInOctets");
    let received_before = received();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            let line = "curl -sS --limit-rate 100k -o /dev/null http://10.0.1.10/big";
            cluster.web.run(line)
        });
        eventually("a megabyte has come", || {
            received() > received_before + (1 << 20)
        });
        cluster.lab.apply("policies.yaml", DEFAULT_DENY);
        let ran = fetching.join().expect("curl does not panic");
        assert!(!ran.is_success, "{}", ran.stderr);
    });
    // What the kernel joins on its way in has fewer headers.
    let come = received() - received_before;
    let told = || pair(&cluster.link()["bytes"])[1] - before[1];
    eventually("the cut is counted", || told() > 0);
    std::thread::sleep(Duration::from_secs(2));
    let expected = come * 19 / 20..=come * 11 / 10;
    assert!(expected.contains(&told()), "{} of {come}", told());
    let link = cluster.link();
    assert_eq!(
        (&link["forwarded"], &link["dropped"]),
        (&json!(2), &json!(1)),
        "{link}"
    );
    // Whichever side's packet was the first under the new policy.
    let cut = cluster.lab.observe("--verdict DROPPED");
    let cut = cut.lines().find(|line| line.contains("cut by new policy"));
    let why = "ingress default deny by CiliumNetworkPolicy backend/default-deny";
    assert!(cut.is_some_and(|cut| cut.contains(why)), "{cut:?}");
}

#[test]
fn a_chosen_edge_tells_its_ports_and_how_long_handshakes_took() {
    let Some(cluster) = cluster() else { return };
    for _ in 0..4 {
        assert!(cluster.web.fetch("http://10.0.1.10/").is_some());
    }
    let bytes = cluster.ended(5);
    eventually("the map has counted it", || {
        pair(&cluster.link()["bytes"]) == bytes
    });
    // The middle of a step is at most an eighth off, and the median and the last of five are one each.
    let link = cluster.link();
    let steps: Vec<[u64; 2]> = serde_json::from_value(link["round_trips"].clone()).expect("pairs");
    let told: Vec<u64> = steps
        .iter()
        .flat_map(|[time, count]| vec![*time; usize::try_from(*count).expect("few")])
        .collect();
    let mut exact: Vec<u64> = cluster
        .ends()
        .iter()
        .map(|flow| flow["totals"]["round_trip_us"].as_u64().expect("a number"))
        .collect();
    exact.sort_unstable();
    assert_eq!(exact.len(), told.len(), "{exact:?} {told:?}");
    for (exact, told) in exact.iter().zip(&told) {
        assert!(
            *exact > 0 && exact.abs_diff(*told) <= 1 + exact / 8,
            "{exact}: {told}"
        );
    }

    let browser = Browser::start(&cluster.lab);
    browser.open(PAGE);
    cards(&browser);
    browser.click(".words.forwarded");
    let is_hidden = "return document.querySelector('#edge').hidden";
    browser.await_script(is_hidden, &json!(false));
    let panel = "return document.querySelector('#edge').innerText";
    let words = |time: u64| match time as f64 / 1000.0 {
        below if below < 1.0 => format!("{time} µs"),
        below if below < 10.0 => format!("{below:.1} ms"),
        time => format!("{time:.0} ms"),
    };
    let (half, most) = (words(told[2]), words(told[4]));
    let text = browser.script(panel);
    let text = text.as_str().expect("text").to_owned();
    for part in [
        "web → api",
        "workload=frontend/web",
        "5 connections",
        "Answered",
        &format!("p50 {half}, p99 {most}, of 5"),
        "80/TCP",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let cells = browser.script(
        "return [...document.querySelectorAll('#edge tbody td')].map(cell => cell.textContent)",
    );
    let cells: Vec<String> = serde_json::from_value(cells).expect("texts");
    assert_eq!(cells[..2], ["80/TCP", "5"]);
    assert_eq!(cells[3..5], [half, most]);
    // No card is under the panel.
    browser.await_script(
        "const end = document.querySelector('#edge').getBoundingClientRect().left; \
         return [...document.querySelectorAll('.card')].every(card => card.getBoundingClientRect().right < end)",
        &json!(true),
    );
    browser.picture("edge-light");
    // Whoever gets the address sees the same.
    let address = browser.script("return location.href");
    browser.open(address.as_str().expect("text"));
    browser.await_script(
        "return document.querySelectorAll('#edge tbody tr').length",
        &json!(1),
    );
    browser.press("\u{e00c}");
    browser.await_script(is_hidden, &json!(true));

    browser.open(PAGE);
    cards(&browser);
    browser.click("#theme");
    browser.click("#theme");
    let _ = browser.script("document.querySelector('.edge.dropped[data-from=stranger]').focus()");
    browser.press("\u{e007}");
    browser.await_script(is_hidden, &json!(false));
    let text = browser.script(panel);
    let text = text.as_str().expect("text");
    for part in ["stranger → api", "policy_denied", "Dropped"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("Handshake"), "{text}");
    browser.picture("edge-dark");
    assert_content(&browser);
}

/// Ten pods with long names and many edges: what is written can be read, and the focus be seen.
#[test]
fn a_crowded_map_can_be_read_in_light_and_dark_and_shows_where_the_focus_is() {
    let Some(lab) = Lab::new("") else { return };
    let names = [
        "frontend/web-0",
        "frontend/web-1",
        "frontend/checkout",
        "backend/api",
        "backend/a-very-long-name-of-a-workload",
        "backend/payments",
        "data/postgres-0",
        "data/redis",
        "monitoring/prometheus",
        "batch/stranger",
    ];
    let pod = |(number, name): (usize, &&str)| {
        let label = format!("app={}", name.split_once('/').expect("two parts").1);
        let pod = lab.pod(name, &[&label], &[&format!("10.0.1.{}", 10 + number)]);
        pod.serve_pages();
        pod
    };
    let pods: Vec<Pod> = names.iter().enumerate().map(pod).collect();
    lab.start_daemon();
    lab.apply("policies.yaml", CROWD_POLICIES);
    let calls = [
        (0, 3),
        (1, 3),
        (2, 3),
        (2, 5),
        (3, 4),
        (3, 5),
        (3, 6),
        (4, 6),
        (4, 7),
        (5, 6),
        (8, 0),
        (8, 3),
        (8, 6),
        (9, 3),
        (9, 6),
        (9, 7),
    ];
    for (from, to) in calls {
        let line = format!(
            "curl -s -o /dev/null --max-time 0.5 http://10.0.1.{}/big",
            10 + to
        );
        let _ = pods[from].run(&line);
    }
    let browser = Browser::start(&lab);
    for theme in ["light", "dark"] {
        browser.open(PAGE);
        let _ = browser.script(&format!("localStorage.setItem('theme', '{theme}')"));
        browser.open(PAGE);
        browser.await_script(
            "return document.querySelectorAll('.words').length",
            &json!(15),
        );
        browser.picture(&format!("crowd-{theme}"));
        assert_eq!(browser.script(UNREADABLE), json!([]), "{theme}");
        let _ = browser.script("document.querySelector('.picture').focus()");
        for (name, part) in [
            (".card[data-name=api]", ""),
            (".edge.forwarded[data-from=web]", " .reach"),
            (".plate-name", ""),
            ("#fold", ""),
        ] {
            let look = format!(
                "const {{ outlineStyle, outlineWidth, outlineColor, stroke, strokeOpacity }} = \
                 getComputedStyle(document.querySelector('{name}{part}')); \
                 return [outlineStyle, outlineWidth, outlineColor, stroke, strokeOpacity]"
            );
            let before = browser.script(&look);
            // Tab tells the browser that somebody uses keys.
            browser.press("\u{e004}");
            let _ = browser.script(&format!("document.querySelector('{name}').focus()"));
            let now = browser.script(&look);
            assert_ne!(before, now, "{theme}: {name}");
            let is_outlined = now[0] == "solid";
            let opacity = now[4].as_str().and_then(|text| text.parse::<f64>().ok());
            assert!(
                is_outlined || opacity >= Some(0.5),
                "{theme}: {name}: {now}"
            );
            browser.picture(&format!("focus-{theme}"));
        }
        assert_content(&browser);
    }
}

const CROWD_POLICIES: &str = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: data, namespace: data}
spec:
  endpointSelector: {}
  ingress: [{fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': backend}}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: payments, namespace: backend, annotations: {portcullis.io/enforcement: audit}}
spec:
  endpointSelector: {matchLabels: {app: payments}}
  ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]
";

/// Names what of the map is too small, sticks out of its card, or covers something that is written.
const UNREADABLE: &str = "\
const faults = [];
const all = selector => [...document.querySelectorAll(selector)];
const box = node => node.getBoundingClientRect();
const hit = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
for (const card of all('.card')) {
  const room = box(card.querySelector(':scope > rect'));
  for (const text of card.querySelectorAll('text')) {
    if (box(text).right > room.right - 2) faults.push(`${text.textContent} sticks out`);
  }
}
const words = all('.words');
for (const [at, one] of words.entries()) {
  const text = one.querySelector('text');
  if (text.getBBox().height * text.getScreenCTM().d < 11) faults.push(`${text.textContent} is small`);
  if (box(text).width > box(one.querySelector('rect')).width) faults.push(`${text.textContent} is wide`);
  for (const other of [...words.slice(at + 1), ...all('.card > rect'), ...all('.plate-name'), ...all('.fold')]) {
    if (hit(box(one), box(other))) faults.push(`${text.textContent} covers ${other.textContent || other.ariaLabel || other.parentNode.dataset.name}`);
  }
}
return faults;";
