//! Curves over time: one panel for what belongs together, a curve for each server, values on a
//! logarithmic scale.

use std::fmt::Write;

use super::{COLOURS, WIDTH, heading, text};
use crate::report::{Figures, Line};

const LEFT: f64 = 60.0;
const HEIGHT: f64 = 220.0;
/// Steps between the lines of the grid along the time.
const TIME_STEPS: u32 = 6;

/// Where values go in a panel.
struct Scale {
    top: f64,
    seconds: f64,
    /// Powers of ten between which all values lie.
    least: f64,
    most: f64,
}

impl Scale {
    fn of(lines: &[&Line], top: f64) -> Self {
        let points = || lines.iter().flat_map(|line| &line.points);
        let values = || points().map(|point| point.1.max(f64::MIN_POSITIVE).log10());
        let least = values().fold(f64::INFINITY, f64::min).floor().clamp(-9.0, 9.0);
        let most = values().fold(f64::NEG_INFINITY, f64::max).ceil().clamp(least + 1.0, 10.0);
        let seconds = points().map(|point| point.0).fold(f64::MIN_POSITIVE, f64::max);
        Self { top, seconds, least, most }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - 20.0)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value.max(f64::MIN_POSITIVE).log10() - self.least) / (self.most - self.least);
        self.top + HEIGHT * (1.0 - part.clamp(0.0, 1.0))
    }
}

/// Draws the lines of a scenario from `y` on; where the next panel begins.
pub(super) fn panels(body: &mut String, mut y: f64, scenario: &str, figures: &Figures) -> f64 {
    let mut names: Vec<&str> = Vec::new();
    for line in &figures.lines {
        if !names.contains(&line.panel.as_str()) {
            names.push(&line.panel);
        }
    }
    for name in names {
        let lines: Vec<&Line> = figures.lines.iter().filter(|line| line.panel == name).collect();
        y = heading(body, y, &format!("{scenario}, {name}"), figures);
        let scale = Scale::of(&lines, y);
        grid(body, &scale);
        lines.iter().for_each(|line| curve(body, &scale, line));
        y += HEIGHT + 46.0;
    }
    y
}

fn grid(body: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - 20.0, scale.top + HEIGHT);
    for power in scale.least as i32..=scale.most as i32 {
        let value = 10f64.powi(power);
        let y = scale.y(value);
        stroke(body, (LEFT, y), (right, y), "#dddddd", "");
        text(body, 10.0, y + 4.0, &format!("{value}"));
    }
    for step in 0..=TIME_STEPS {
        let seconds = scale.seconds * f64::from(step) / f64::from(TIME_STEPS);
        let x = scale.x(seconds);
        stroke(body, (x, scale.top), (x, bottom), "#eeeeee", "");
        text(body, x - 10.0, bottom + 16.0, &format!("{seconds:.1} s"));
    }
}

fn curve(body: &mut String, scale: &Scale, line: &Line) {
    let colour = COLOURS[line.column % COLOURS.len()];
    for mark in line.marks {
        let x = scale.x(mark);
        stroke(body, (x, scale.top), (x, scale.top + HEIGHT), colour, " stroke-dasharray=\"4 3\"");
    }
    let mut points = String::new();
    for &(seconds, value) in &line.points {
        // Writing to a string does not fail.
        let _ = write!(points, "{:.1},{:.1} ", scale.x(seconds), scale.y(value));
    }
    let _ = writeln!(
        body,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>",
        points.trim_end()
    );
}

fn stroke(body: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, more: &str) {
    let _ = writeln!(
        body,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"{more}/>",
        from.0, from.1, to.0, to.1
    );
}

#[test]
fn lines_of_one_panel_share_its_scale() {
    let line = |panel: &str, column, points: &[(f64, f64)]| Line {
        panel: panel.into(),
        column,
        points: points.to_vec(),
        marks: [0.5, 1.5],
    };
    let mut figures = Figures::new(["a", "b"]);
    figures.lines = vec![
        line("one", 0, &[(0.0, 0.1), (2.0, 1.0)]),
        line("one", 1, &[(1.0, 10.0)]),
        line("two", 1, &[]),
    ];
    let mut body = String::new();
    let end = panels(&mut body, 0.0, "x", &figures);
    assert_eq!(body.matches("<polyline").count(), 3);
    assert!(body.contains("points=\"60.0,244.0 880.0,134.0\""), "{body}");
    assert!(body.contains("points=\"470.0,24.0\""), "{body}");
    assert_eq!(end, 2.0 * (24.0 + HEIGHT + 46.0));
}
