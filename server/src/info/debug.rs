//! The section `debug` of INFO: how long workers do not look at their clients.
//!
//! `eventloop_duration_max` has Redis's name and meaning, in microseconds; the percentiles and what is
//! said of saves are this server's own. CONFIG RESETSTAT begins anew.
#![forbid(unsafe_code)]

use super::Page;
use crate::metrics::Counts;

pub(super) fn debug(page: &mut Page) {
    let steps = &page.snapshot.steps;
    page.field("eventloop_duration_max", steps.turns.percentile(100.0) / 1_000);
    page.field("eventloop_duration_percentiles_usec", percentiles(&steps.turns));
    page.field("save_slices", steps.slices.total());
    page.field("save_slice_percentiles_usec", percentiles(&steps.slices));
    page.field("save_slice_cpu_percentiles_usec", percentiles(&steps.slices_cpu));
}

/// As the section `latencystats` shows percentiles.
fn percentiles(durations: &Counts) -> String {
    let shown = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];
    let texts = shown.map(|(name, part)| {
        let micros = durations.percentile(part) as f64 / 1_000.0;
        format!("{name}={micros:.3}")
    });
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn percentiles_are_in_microseconds() {
        let histogram = Histogram::default();
        (0..9_999).for_each(|_| histogram.record(20));
        histogram.record(31_000);
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        assert_eq!(percentiles(&counts), "p50=0.020,p99=0.020,p99.9=0.020,max=31.231");
    }
}
