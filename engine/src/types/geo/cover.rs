//! Cells of the grid at any scale, and those that cover a search.
//!
//! A cell of *step* s is one of 2^s columns and 2^s rows. A search takes the cell of the centre at
//! the largest step whose cells are not smaller than the shape, and the eight around it, without
//! those that the shape does not reach.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{
    EARTH_RADIUS_M, LATITUDE_MAX, LONGITUDE_MAX, Point, STEP_MAX, Search, Shape, degrees, radians,
};

/// Half the Earth's circumference in the projection, in metres.
const MERCATOR_MAX_M: f64 = 20_037_726.37;
/// Bits of a cell that say the row; the others say the column.
const ROW_BITS: u64 = 0x5555_5555_5555_5555;

/// A cell of the grid: its column and row in turns, the column first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    bits: u64,
    step: u32,
}

/// Where a cell lies: from and to, in degrees.
pub(super) struct Area {
    pub(super) longitude: (f64, f64),
    pub(super) latitude: (f64, f64),
}

impl Cell {
    pub(super) fn new(bits: u64, step: u32) -> Self {
        Self { bits, step }
    }

    /// The cell of `step` in which a place lies; rows divide the latitudes to `latitude_max`.
    pub(super) fn around(point: Point, step: u32, latitude_max: f64) -> Self {
        let index = |degrees: f64, max: f64| {
            let part = (degrees - -max) / (max - -max);
            (part * (1_u64 << step) as f64) as u32
        };
        let column = index(point.longitude, LONGITUDE_MAX);
        let row = index(point.latitude, latitude_max);
        Self { bits: spread(row) | spread(column) << 1, step }
    }

    pub(super) fn bits(self) -> u64 {
        self.bits
    }

    pub(super) fn area(self) -> Area {
        let span = |index: u32, max: f64| {
            let cells = (1_u64 << self.step) as f64;
            let edge = |index: u32| -max + f64::from(index) / cells * (max - -max);
            (edge(index), edge(index.wrapping_add(1)))
        };
        Area {
            longitude: span(gather(self.bits >> 1), LONGITUDE_MAX),
            latitude: span(gather(self.bits), LATITUDE_MAX),
        }
    }

    /// The scores of the places in the cell.
    pub fn scores(self) -> Range<f64> {
        let shift = 2 * (STEP_MAX - self.step);
        (self.bits << shift) as f64..((self.bits + 1) << shift) as f64
    }

    /// The cell so many columns to the east and rows to the north: -1, 0 or 1 of each, around the
    /// Earth and, as Redis has it, over the poles.
    fn beside(self, east: i64, north: i64) -> Self {
        let used = u64::MAX >> (64 - 2 * self.step);
        let moved = |own: u64, by: i64| {
            let others = !own & used;
            let bits = self.bits & own;
            // With the bits between set, a carry runs through to the next own bit.
            match by {
                0 => bits,
                1 => bits.wrapping_add(others + 1) & own & used,
                _ => (bits | others).wrapping_sub(others + 1) & own & used,
            }
        };
        Self { bits: moved(!ROW_BITS, east) | moved(ROW_BITS, north), ..self }
    }
}

/// The bits of `number`, with a zero in front of each.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    bits = (bits | bits << 16) & 0x0000_FFFF_0000_FFFF;
    bits = (bits | bits << 8) & 0x00FF_00FF_00FF_00FF;
    bits = (bits | bits << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    bits = (bits | bits << 2) & 0x3333_3333_3333_3333;
    (bits | bits << 1) & ROW_BITS
}

/// Every second bit of `bits`, from the lowest on.
fn gather(bits: u64) -> u32 {
    let mut number = bits & ROW_BITS;
    number = (number | number >> 1) & 0x3333_3333_3333_3333;
    number = (number | number >> 2) & 0x0F0F_0F0F_0F0F_0F0F;
    number = (number | number >> 4) & 0x00FF_00FF_00FF_00FF;
    number = (number | number >> 8) & 0x0000_FFFF_0000_FFFF;
    (number | number >> 16) as u32
}

/// The degrees that a shape reaches.
struct Bounds {
    longitude: (f64, f64),
    latitude: (f64, f64),
}

impl Bounds {
    fn of(search: &Search) -> Self {
        let (width, height) = match search.shape {
            Shape::Circle(radius) => (search.unit_m * radius, search.unit_m * radius),
            Shape::Rectangle(width, height) => {
                (search.unit_m * (width / 2.0), search.unit_m * (height / 2.0))
            }
        };
        let Point { longitude, latitude } = search.center;
        let up = degrees(height / EARTH_RADIUS_M);
        // The edge nearer to a pole spans more degrees; Redis takes that of the pole's side.
        let edge = if latitude < 0.0 { latitude - up } else { latitude + up };
        let aside = degrees(width / EARTH_RADIUS_M / radians(edge).cos());
        Self {
            longitude: (longitude - aside, longitude + aside),
            latitude: (latitude - up, latitude + up),
        }
    }
}

/// The step of the cells for a search.
fn step_of(search: &Search) -> u32 {
    let mut reach_m = match search.shape {
        Shape::Circle(radius) => radius,
        Shape::Rectangle(width, height) => {
            ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
        }
    } * search.unit_m;
    if reach_m == 0.0 {
        return STEP_MAX;
    }
    let mut step = 1_i32;
    while reach_m < MERCATOR_MAX_M {
        reach_m *= 2.0;
        step += 1;
    }
    // So that the nine cells cover it in most cases; and the columns narrow towards the poles.
    step -= 2;
    let latitude = search.center.latitude.abs();
    step -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
    step.clamp(1, STEP_MAX as i32) as u32
}

/// The cells that cover a search: the centre's, then the others in Redis's order, which shows in the
/// order of replies.
pub(super) fn cells(search: &Search) -> impl Iterator<Item = Cell> + use<> {
    const AROUND: [(i64, i64); 8] =
        [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
    let bounds = Bounds::of(search);
    let mut step = step_of(search);
    if step > 1 && !reaches(Cell::around(search.center, step, LATITUDE_MAX), &bounds) {
        step -= 1;
    }
    let center = Cell::around(search.center, step, LATITUDE_MAX);
    let area = center.area();
    let is_needed = move |&(east, north): &(i64, i64)| {
        step < 2
            || !(north < 0 && area.latitude.0 < bounds.latitude.0
                || north > 0 && area.latitude.1 > bounds.latitude.1
                || east < 0 && area.longitude.0 < bounds.longitude.0
                || east > 0 && area.longitude.1 > bounds.longitude.1)
    };
    let around = AROUND.into_iter().filter(is_needed);
    let around = around.map(move |(east, north)| center.beside(east, north));
    // Around the whole Earth neighbours on both sides are the same cell.
    let mut last = None;
    let distinct = around.filter(move |&cell| last.replace(cell) != Some(cell));
    std::iter::once(center).chain(distinct)
}

/// Whether the cell and those around it reach as far as the bounds.
fn reaches(center: Cell, bounds: &Bounds) -> bool {
    let area = |east, north| center.beside(east, north).area();
    area(0, 1).latitude.1 >= bounds.latitude.1
        && area(0, -1).latitude.0 <= bounds.latitude.0
        && area(1, 0).longitude.1 >= bounds.longitude.1
        && area(-1, 0).longitude.0 <= bounds.longitude.0
}
