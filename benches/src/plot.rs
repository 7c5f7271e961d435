//! Plots as SVG, made by plain code, readable on light and on dark ground.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const STYLE: &str = "<style>text{font:13px system-ui,sans-serif;fill:#1f2328}\
.t{font-size:15px;font-weight:600}.n{fill:#59636e}.g{stroke:#d1d9e0}.o{fill:#0969da}.k{fill:#8c959f}\
.l0{stroke:#0969da}.l1{stroke:#bc4c00}.l2{stroke:#1a7f37}.d0{fill:#0969da}.d1{fill:#bc4c00}\
.d2{fill:#1a7f37}polyline{fill:none;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.n{fill:#9198a1}.g{stroke:#3d444d}\
.o{fill:#4493f8}.k{fill:#656c76}.l0{stroke:#4493f8}.l1{stroke:#f0883e}.l2{stroke:#3fb950}\
.d0{fill:#4493f8}.d1{fill:#f0883e}.d2{fill:#3fb950}}</style>";

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// Whether it is one of ours.
    pub is_ours: bool,
}

/// Horizontal bars, from zero.
#[must_use]
pub fn bars(title: &str, bars: &[Bar]) -> String {
    const LEFT: f64 = 270.0;
    const ROW: f64 = 26.0;
    let most = bars.iter().fold(0.0_f64, |most, bar| most.max(bar.value));
    let mut out = open(title, 44.0 + ROW * bars.len() as f64);
    for (number, bar) in bars.iter().enumerate() {
        let top = 36.0 + ROW * number as f64;
        let share = if most > 0.0 { bar.value / most } else { 0.0 };
        let (class, length) = (
            if bar.is_ours { "o" } else { "k" },
            (WIDTH - LEFT - 90.0) * share,
        );
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"18\" rx=\"2\"/>\
             <text class=\"n\" x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8.0,
            top + 14.0,
            escaped(&bar.name),
            LEFT + length + 6.0,
            top + 14.0,
            short(bar.value)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// One line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// Lines over a logarithmic x axis, y from zero.
#[must_use]
pub fn lines(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    const HEIGHT: f64 = 360.0;
    const LEFT: f64 = 60.0;
    const RIGHT: f64 = 150.0;
    const TOP: f64 = 40.0;
    const BOTTOM: f64 = 50.0;
    let points = || lines.iter().flat_map(|(_, points)| points);
    let decades = points()
        .fold(1.0_f64, |most, (x, _)| most.max(x.log10()))
        .ceil();
    let most = points().fold(1.0_f64, |most, (_, y)| most.max(*y)) * 1.1;
    let x_of = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * x.max(1.0).log10() / decades;
    let y_of = |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / most;
    let mut out = open(title, HEIGHT);
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        let y = y_of(value);
        let _ = writeln!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"n\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
    }
    for decade in 0..=decades as i32 {
        let x = 10_f64.powi(decade);
        let _ = writeln!(
            out,
            "<text class=\"n\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x_of(x),
            HEIGHT - BOTTOM + 18.0,
            short(x)
        );
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let class = number % 3;
        let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", x_of(*x), y_of(*y));
        let path: Vec<String> = points.iter().map(place).collect();
        let _ = writeln!(
            out,
            "<polyline class=\"l{class}\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(
                out,
                "<circle class=\"d{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                x_of(*x),
                y_of(*y)
            );
        }
        let y = TOP + 20.0 * number as f64;
        let _ = writeln!(
            out,
            "<rect class=\"d{class}\" x=\"{}\" y=\"{y}\" width=\"10\" height=\"10\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            WIDTH - RIGHT + 16.0,
            WIDTH - RIGHT + 32.0,
            y + 10.0,
            escaped(name)
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"n\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text class=\"n\" x=\"{LEFT}\" y=\"34\" text-anchor=\"end\">{}</text></svg>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 10.0,
        escaped(x_name),
        escaped(y_name)
    );
    out
}

fn open(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <title>{title}</title>{STYLE}\n<text class=\"t\" x=\"8\" y=\"20\">{title}</text>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Three digits that matter.
#[must_use]
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2}M", value / 1e6),
        _ if value >= 1e5 => format!("{:.0}k", value / 1e3),
        _ if value >= 1e4 => format!("{:.1}k", value / 1e3),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room_and_names_are_escaped() {
        let bar = |name: &str, value| Bar {
            name: name.into(),
            value,
            is_ours: value > 1.0,
        };
        let svg = bars("a < b", &[bar("x & y", 2.0), bar("z", 1.0)]);
        assert!(
            svg.contains("a &lt; b") && svg.contains("x &amp; y"),
            "{svg}"
        );
        assert!(
            svg.contains("width=\"400.0\"") && svg.contains("width=\"200.0\""),
            "{svg}"
        );
        assert!(svg.contains("prefers-color-scheme:dark") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_line_begins_at_one_and_ends_at_the_last_decade() {
        let svg = lines(
            "t",
            "x",
            "y",
            &[("l".into(), vec![(1.0, 0.0), (1e6, 10.0)])],
        );
        assert!(svg.contains("points=\"60.0,310.0 610.0,"), "{svg}");
    }

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let values = [
            1_234_567.0,
            123_456.0,
            12_345.0,
            1234.0,
            12.34,
            1.234,
            0.0123,
            0.0,
        ];
        let texts = [
            "1.23M", "123k", "12.3k", "1234", "12.3", "1.23", "0.012", "0.00",
        ];
        assert_eq!(values.map(short), texts);
    }
}
