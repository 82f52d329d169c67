//! Tables: median and spread of each figure for each server, and the first server's ratio to the
//! others.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::chart;
use crate::error::BenchError;
use crate::options::Options;
use crate::probe;
use crate::servers::Server;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The first column's median is at most this.
    AtMost(f64),
    /// The first column's median is at most this part of the named column's.
    AtMostTimes(f64, &'static str),
    /// The first column's median is at least so many times the named column's.
    TimesOrMore(f64, &'static str),
}

/// One figure over all columns.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Samples by column; none where a server was not measured.
    pub(crate) samples: Vec<Vec<f64>>,
    pub(crate) target: Option<Target>,
}

/// How something goes on over time, for the chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The title of its panel, which lines of other columns share.
    pub(crate) panel: String,
    pub(crate) column: usize,
    /// Seconds, and values above zero.
    pub(crate) points: Vec<(f64, f64)>,
    /// When what is shown began and ended, in seconds.
    pub(crate) marks: [f64; 2],
}

/// What a scenario found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// What is drawn over time.
    pub(crate) lines: Vec<Line>,
}

impl Figures {
    pub(crate) fn new(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Figures { columns, ..Figures::default() }
    }

    /// The units of the rows, each once, in order.
    pub(crate) fn units(&self) -> Vec<&'static str> {
        let mut units = Vec::new();
        for row in &self.rows {
            if !units.contains(&row.unit) {
                units.push(row.unit);
            }
        }
        units
    }

    /// Adds a sample to the row of this name, which is made when it is new.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, column: usize, value: f64) {
        let columns = self.columns.len();
        let row = match self.rows.iter().position(|row| row.name == name && row.unit == unit) {
            Some(at) => &mut self.rows[at],
            None => {
                let samples = vec![Vec::new(); columns];
                self.rows.push(Row { name: name.into(), unit, samples, target: None });
                self.rows.last_mut().expect("one was pushed")
            }
        };
        row.samples[column].push(value);
    }

    /// Sets the target of a row that is there. Targets are Tessera's: without it in the first
    /// column nothing is judged.
    pub(crate) fn target(&mut self, name: &str, unit: &str, target: Target) {
        if !self.columns.first().is_some_and(|column| column.starts_with("tessera")) {
            return;
        }
        for row in self.rows.iter_mut().filter(|row| row.name == name && row.unit == unit) {
            row.target = Some(target);
        }
    }
}

/// The middle of the samples; the mean of the two middle ones of an even number.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

/// Half the distance between the least and the greatest, in per cent of the median.
fn spread_percent(samples: &[f64]) -> Option<f64> {
    let middle = median(samples).filter(|&middle| middle != 0.0 && samples.len() > 1)?;
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some((most - least) / 2.0 / middle * 100.0)
}

impl Target {
    /// The target in words, and whether it is reached; `None` when a figure is missing.
    fn judge(self, row: &Row, columns: &[String]) -> Option<(String, bool)> {
        let own = median(row.samples.first()?)?;
        let of =
            |name: &str| median(&row.samples[columns.iter().position(|column| column == name)?]);
        Some(match self {
            Target::AtMost(most) => (format!("<= {}", number(most)), own <= most),
            Target::AtMostTimes(ratio, name) => {
                (format!("<= {ratio} x {name}"), own <= ratio * of(name)?)
            }
            Target::TimesOrMore(ratio, name) => {
                (format!(">= {ratio} x {name}"), own >= ratio * of(name)?)
            }
        })
    }
}

/// Three significant digits, thousands with a separator.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The table of one scenario, rows of one unit together.
fn table(figures: &Figures) -> String {
    let mut lines = vec![vec!["figure".to_owned(), "unit".to_owned()]];
    for (at, column) in figures.columns.iter().enumerate() {
        lines[0].push(column.clone());
        if at > 0 {
            lines[0].push("ratio".into());
        }
    }
    lines[0].push("target".into());
    for unit in figures.units() {
        let rows = figures.rows.iter().filter(|row| row.unit == unit);
        lines.extend(rows.map(|row| table_line(row, &figures.columns)));
    }
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..lines[0].len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let is_text = at < 2 || at + 1 == widths.len();
            text +=
                &if is_text { format!("{cell}{padding}  ") } else { format!("{padding}{cell}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn table_line(row: &Row, columns: &[String]) -> Vec<String> {
    let mut cells = vec![row.name.clone(), row.unit.to_owned()];
    let own = row.samples.first().and_then(|samples| median(samples));
    for (at, samples) in row.samples.iter().enumerate() {
        let middle = median(samples);
        let spread = spread_percent(samples).map(|percent| format!(" ±{percent:.0}%"));
        cells.push(match middle {
            Some(middle) => number(middle) + &spread.unwrap_or_default(),
            None => "-".into(),
        });
        if at > 0 {
            let ratio = own.zip(middle).filter(|(_, other)| *other != 0.0);
            cells.push(ratio.map_or("-".into(), |(own, other)| format!("{:.2}", own / other)));
        }
    }
    let judged = row.target.and_then(|target| target.judge(row, columns));
    cells.push(judged.map_or(String::new(), |(words, is_reached)| {
        format!("{words}: {}", if is_reached { "reached" } else { "MISSED" })
    }));
    cells
}

/// What a whole run found.
pub(crate) struct Report {
    head: String,
    body: String,
    all: Vec<(&'static str, Figures)>,
}

impl Report {
    pub(crate) fn new(options: &Options, servers: &[Server]) -> Self {
        let mut head = format!("## {}, {}\n\n", date(), probe::machine());
        for server in servers {
            head += &format!("- {}: {}\n", server.name, server.version);
        }
        head += &format!(
            "\nServers on CPU {:?}, load on CPU {:?}, {} alternating rounds: median ± half the \
             spread; the ratio is the first column's to that column.\n",
            options.server_cpus, options.load_cpus, options.rounds
        );
        Report { head, body: String::new(), all: Vec::new() }
    }

    /// Adds a scenario; the text to print for it.
    pub(crate) fn add(&mut self, name: &'static str, about: &str, figures: &Figures) -> String {
        let text = format!("\n### {name}: {about}\n\n```\n{}```\n", table(figures));
        let shown =
            if self.body.is_empty() { format!("{}{text}", self.head) } else { text.clone() };
        self.body += &text;
        self.all.push((name, figures.clone()));
        shown
    }

    /// Appends the tables to the results file and writes the chart, where these are asked for.
    pub(crate) fn write(&self, options: &Options) -> Result<(), BenchError> {
        if let Some(path) = &options.results {
            let text = format!("\n{}{}", self.head, self.body);
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|error| BenchError::File { path: path.clone(), error })?;
        }
        if let Some(path) = &options.chart {
            std::fs::write(path, chart::svg(&self.all))
                .map_err(|error| BenchError::File { path: path.clone(), error })?;
        }
        Ok(())
    }
}

/// Today in UTC as year-month-day.
fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The Gregorian date of a day since 1970-01-01: years are counted off, then months.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_leap_days() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_722), (2023, 12, 31));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }

    #[test]
    fn numbers_have_three_digits_or_separators() {
        let texts = [0.123, 9.996, 44.44, 999.4, 12345.6, -1234567.0].map(number);
        assert_eq!(texts, ["0.12", "10.00", "44.4", "999", "12,346", "-1,234,567"]);
    }

    #[test]
    fn a_table_shows_medians_spreads_ratios_and_targets() {
        let mut figures = Figures::new(["tessera", "redis", "none"]);
        for (own, other) in [(50.0, 100.0), (40.0, 110.0), (60.0, 90.0)] {
            figures.add("GET", "ns", 0, own);
            figures.add("GET", "ns", 1, other);
        }
        figures.target("GET", "ns", Target::AtMostTimes(0.4, "redis"));
        let text = table(&figures);
        let line = text.lines().nth(1).expect("a row");
        let cells: Vec<_> = line.split_ascii_whitespace().collect();
        let expected = "GET ns 50.0 ±20% 100 ±10% 0.50 - - <= 0.4 x redis: MISSED";
        assert_eq!(cells.join(" "), expected);
    }
}
