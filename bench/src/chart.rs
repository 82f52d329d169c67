//! An SVG with one panel a unit and scenario: bars by figure, one colour a server; then what goes on
//! over time, as curves.

mod curves;

use std::fmt::Write;

use crate::report::{Figures, Row, median, number};

const WIDTH: f64 = 900.0;
const LABEL_WIDTH: f64 = 330.0;
const BAR_HEIGHT: f64 = 13.0;
const GAP: f64 = 9.0;
const COLOURS: [&str; 4] = ["#d1495b", "#8d99ae", "#457b9d", "#e9c46a"];

/// The chart of all scenarios.
pub(crate) fn svg(all: &[(&str, Figures)]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for (name, figures) in all {
        for unit in figures.units() {
            y = panel(&mut body, y, &format!("{name}, {unit}"), figures, unit);
        }
        y = curves::panels(&mut body, y, name, figures);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws the rows of one unit from `y` on; where the next panel begins.
fn panel(body: &mut String, mut y: f64, title: &str, figures: &Figures, unit: &str) -> f64 {
    let rows: Vec<&Row> = figures.rows.iter().filter(|row| row.unit == unit).collect();
    let medians = rows.iter().flat_map(|row| row.samples.iter().filter_map(|all| median(all)));
    let most = medians.fold(f64::MIN_POSITIVE, f64::max);
    y = heading(body, y, title, figures);
    for row in rows {
        text(body, 10.0, y + 11.0, &escape(&row.name));
        for (at, samples) in row.samples.iter().enumerate() {
            let Some(value) = median(samples) else { continue };
            let length = (value / most).max(0.0) * (WIDTH - LABEL_WIDTH - 90.0);
            rectangle(body, LABEL_WIDTH, y, length, at);
            text(body, LABEL_WIDTH + length + 5.0, y + 11.0, &number(value));
            y += BAR_HEIGHT + 1.0;
        }
        y += GAP;
    }
    y + 16.0
}

/// The title of a panel and the colours of the columns; where the panel goes on.
fn heading(body: &mut String, y: f64, title: &str, figures: &Figures) -> f64 {
    text(body, 10.0, y + 14.0, &format!("<tspan font-weight=\"bold\">{}</tspan>", escape(title)));
    let mut x = WIDTH - 20.0;
    for (at, column) in figures.columns.iter().enumerate().rev() {
        x -= 40.0 + 7.0 * column.len() as f64;
        rectangle(body, x, y + 4.0, 12.0, at);
        text(body, x + 16.0, y + 14.0, &escape(column));
    }
    y + 24.0
}

fn rectangle(body: &mut String, x: f64, y: f64, width: f64, column: usize) {
    let colour = COLOURS[column % COLOURS.len()];
    // Writing to a string does not fail.
    let _ = writeln!(
        body,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{colour}\"/>"
    );
}

fn text(body: &mut String, x: f64, y: f64, content: &str) {
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn every_figure_has_a_bar_and_markup_is_escaped() {
    let mut figures = Figures::new(["a<b", "c"]);
    figures.add("GET & SET", "ns", 0, 10.0);
    figures.add("GET & SET", "ns", 1, 20.0);
    figures.add("rate", "k/s", 1, 7.0);
    let chart = svg(&[("throughput", figures)]);
    assert!(chart.contains("GET &amp; SET") && chart.contains("a&lt;b"));
    // Background, two legends of two colours, three bars.
    assert_eq!(chart.matches("<rect").count(), 1 + 4 + 3);
    assert!(chart.contains(">20.0<") && chart.contains(">7.00<"));
}
