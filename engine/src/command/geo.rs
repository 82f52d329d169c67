//! Commands on places: members of a sorted set whose scores are geohashes.
//!
//! The arithmetic stands in `types::geo`; here are arguments, keys and replies.
#![forbid(unsafe_code)]

mod add;
mod options;
mod read;
mod search;
#[cfg(test)]
mod tests;

use tessera_proto::{Protocol, float::parse_f64};

use super::{keys::Place, prelude::*};
use crate::types::geo::Point;
use add::geoadd;
use read::{geodist, geohash, geopos};
use search::{
    georadius, georadius_keys, georadius_ro, georadiusbymember, georadiusbymember_keys,
    georadiusbymember_ro, geosearch, geosearchstore,
};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
/// A destination, then a source.
const SEARCH_STORE: KeySpec =
    KeySpec::FIRST_TWO.used(Access::OW.with(Access::UPDATE)).then(Access::RO.with(Access::ACCESS));

/// A source, then perhaps a destination behind STORE or STOREDIST.
const fn radius(find: fn(&Args<'_>, &mut Vec<usize>)) -> KeySpec {
    KeySpec::at(Place::FirstAnd(find))
        .used(Access::RO.with(Access::ACCESS))
        .then(Access::OW.with(Access::UPDATE))
}

commands! { Geo;
    /// Adds members at places, or moves them.
    "geoadd" "3.2.0", AtLeast(5), WRITE | DENYOOM, KeySpec::FIRST.used(Access::RW.with(Access::UPDATE)), Owner, geoadd;
    /// Answers the distance between two members.
    "geodist" "3.2.0", AtLeast(4), READONLY, READ, Owner, geodist;
    /// Answers members' places as geohashes.
    "geohash" "3.2.0", AtLeast(2), READONLY, READ, Owner, geohash;
    /// Answers members' places as longitude and latitude.
    "geopos" "3.2.0", AtLeast(2), READONLY, READ, Owner, geopos;
    /// Finds members around a place, and keeps them if asked to.
    "georadius" "3.2.0", AtLeast(6), WRITE | DENYOOM | MOVABLE_KEYS | DEPRECATED, radius(georadius_keys), Owner, georadius;
    /// Finds members around a place.
    "georadius_ro" "3.2.10", AtLeast(6), READONLY | DEPRECATED, READ, Owner, georadius_ro;
    /// Finds members around a member, and keeps them if asked to.
    "georadiusbymember" "3.2.0", AtLeast(5), WRITE | DENYOOM | MOVABLE_KEYS | DEPRECATED, radius(georadiusbymember_keys), Owner, georadiusbymember;
    /// Finds members around a member.
    "georadiusbymember_ro" "3.2.10", AtLeast(5), READONLY | DEPRECATED, READ, Owner, georadiusbymember_ro;
    /// Finds members within a circle or a rectangle.
    "geosearch" "6.2.0", AtLeast(7), READONLY, READ, Owner, geosearch;
    /// Finds members within a circle or a rectangle and keeps them.
    "geosearchstore" "6.2.0", AtLeast(8), WRITE | DENYOOM, SEARCH_STORE, Owner, geosearchstore;
}

/// The place that a longitude and a latitude name.
fn parse_point(longitude: &[u8], latitude: &[u8]) -> Result<Point, CommandError> {
    let longitude = parse_f64(longitude).ok_or(CommandError::NotAFloat)?;
    let latitude = parse_f64(latitude).ok_or(CommandError::NotAFloat)?;
    Point::new(longitude, latitude).ok_or_else(|| {
        CommandError::text(format!(
            "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
        ))
    })
}

/// The metres of a unit.
fn parse_unit(name: &[u8]) -> Result<f64, CommandError> {
    const UNITS: [(&[u8], f64); 4] =
        [(b"m", 1.0), (b"km", 1_000.0), (b"ft", 0.3048), (b"mi", 1_609.34)];
    let unit = UNITS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    unit.map(|&(_, metres)| metres)
        .ok_or(CommandError::text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Answers a distance with four digits behind the point.
fn reply_distance(reply: &mut ReplyWriter<'_>, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    reply.bulk_fmt(format_args!("{}.{:04}", scaled / 10_000, scaled % 10_000));
}

/// Answers longitude and latitude, with as many digits as a double of 17 has behind the point.
fn reply_point(reply: &mut ReplyWriter<'_>, point: Point) {
    reply.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        match reply.protocol() {
            Protocol::Resp2 => reply.bulk(text.as_bytes()),
            Protocol::Resp3 => reply.raw(format!(",{text}\r\n").as_bytes()),
        }
    }
}
