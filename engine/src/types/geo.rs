//! Places on Earth as scores of a sorted set.
//!
//! A place is a cell of a grid of 2^26 by 2^26 over longitudes and the latitudes of the web Mercator
//! projection; its score has the 52 bits of the cell's column and row in turns (a geohash), so that
//! places near each other mostly have scores near each other. A search visits at most nine larger
//! cells that cover its shape, each of which is one range of scores, and looks at the distance of
//! what it finds there.
//!
//! Distances are great circles by the haversine formula on a sphere. Clients see the digits, so the
//! arithmetic is Redis's, in its order; trigonometry is the C library's, which Redis uses too.
#![forbid(unsafe_code)]

mod cover;
#[cfg(test)]
mod tests;

pub use cover::Cell;

/// Bits of a score for the longitude, and for the latitude.
const STEP_MAX: u32 = 26;
const LONGITUDE_MAX: f64 = 180.0;
const LATITUDE_MAX: f64 = 85.051_128_78;
/// The latitudes that text geohashes are over.
const POLE: f64 = 90.0;
/// Mean radius of the WGS-84 ellipsoid.
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// A place in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

impl Point {
    /// The place, if it lies where places can be kept: the poles cannot.
    pub fn new(longitude: f64, latitude: f64) -> Option<Self> {
        let within = |degrees: f64, max: f64| (-max..=max).contains(&degrees).then_some(degrees);
        Some(Self {
            longitude: within(longitude, LONGITUDE_MAX)?,
            latitude: within(latitude, LATITUDE_MAX)?,
        })
    }

    /// The score of a member at this place.
    pub fn score(self) -> f64 {
        Cell::around(self, STEP_MAX, LATITUDE_MAX).bits() as f64
    }

    /// The place of a member with `score`: the middle of its cell. Any score is a place.
    pub fn from_score(score: f64) -> Self {
        let cell = Cell::new(score_bits(score), STEP_MAX);
        let area = cell.area();
        let middle = |(min, max): (f64, f64), limit: f64| ((min + max) / 2.0).clamp(-limit, limit);
        Self {
            longitude: middle(area.longitude, LONGITUDE_MAX),
            latitude: middle(area.latitude, LATITUDE_MAX),
        }
    }

    /// The geohash that other programs read: eleven digits, of which the last says nothing.
    pub fn geohash(self) -> [u8; 11] {
        const DIGITS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::around(self, STEP_MAX, POLE).bits();
        let mut text = [b'0'; 11];
        for (digit, shift) in text[..10].iter_mut().zip((2..=47).rev().step_by(5)) {
            *digit = DIGITS[(bits >> shift) as usize % 32];
        }
        text
    }

    /// The distance to `other` in metres.
    pub fn distance_m(self, other: Self) -> f64 {
        let (longitude, other_longitude) = (radians(self.longitude), radians(other.longitude));
        let v = ((other_longitude - longitude) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance_m(self.latitude, other.latitude);
        }
        let (latitude, other_latitude) = (radians(self.latitude), radians(other.latitude));
        let u = ((other_latitude - latitude) / 2.0).sin();
        let a = u * u + latitude.cos() * other_latitude.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }
}

/// A score as bits. Scores that are no places come from ZADD; they are what a conversion in C makes
/// of them on x86-64.
fn score_bits(score: f64) -> u64 {
    const SIGNED_END: f64 = 9_223_372_036_854_775_808.0;
    if score < SIGNED_END {
        score as i64 as u64
    } else if score < 2.0 * SIGNED_END {
        score as u64
    } else {
        0
    }
}

/// The distance between two places of the same longitude.
fn latitude_distance_m(first: f64, second: f64) -> f64 {
    EARTH_RADIUS_M * (radians(second) - radians(first)).abs()
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// What a search is within, in units of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A circle of this radius.
    Circle(f64),
    /// A rectangle along the axes, its width and height.
    Rectangle(f64, f64),
}

/// A shape around a place.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The middle.
    pub center: Point,
    /// What lies around it.
    pub shape: Shape,
    /// Metres of the shape's unit.
    pub unit_m: f64,
}

impl Search {
    /// The distance of `point` from the centre in metres, if it lies within.
    pub fn distance_m(&self, point: Point) -> Option<f64> {
        let distance = || self.center.distance_m(point);
        match self.shape {
            Shape::Circle(radius) => Some(distance()).filter(|&far| far <= radius * self.unit_m),
            Shape::Rectangle(width, height) => {
                let up = latitude_distance_m(point.latitude, self.center.latitude);
                if up > height * self.unit_m / 2.0 {
                    return None;
                }
                // Along the parallel of the point, which is shorter the nearer it is to a pole.
                let beside = Point { latitude: point.latitude, ..self.center };
                let aside = point.distance_m(beside);
                (aside <= width * self.unit_m / 2.0).then(distance)
            }
        }
    }

    /// Cells that cover the shape, none of them twice in a row.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        cover::cells(self)
    }
}
