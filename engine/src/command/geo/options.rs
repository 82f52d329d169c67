//! The options of GEOSEARCH, GEOSEARCHSTORE and the GEORADIUS family.
//!
//! Options come in any order and are read once; what the centre is may depend on the sorted set,
//! which therefore is at hand. Where it is missing, its members are taken for any place: the
//! arguments are checked all the same, and nothing will be searched.
#![forbid(unsafe_code)]

use tessera_proto::{float::parse_f64, number::parse_i64};

use super::{parse_point, parse_unit};
use crate::{
    command::prelude::*,
    types::{
        Zset,
        geo::{Point, Search, Shape},
    },
};

/// Which command it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// GEORADIUS or GEORADIUS_RO: centre and radius stand first.
    Around,
    /// GEORADIUSBYMEMBER or its _RO: a member and the radius stand first.
    AroundMember,
    /// GEOSEARCH.
    Search,
    /// GEOSEARCHSTORE.
    SearchStore,
}

/// In which order the members found are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they were found.
    Any,
    /// The nearest first.
    Ascending,
    /// The farthest first.
    Descending,
}

/// What a client wants to know.
pub(super) struct Query {
    center: Option<Point>,
    /// Whether the centre is a member's place.
    is_member: bool,
    /// The shape and the metres of its unit.
    shape: Option<(Shape, f64)>,
    pub(super) order: Order,
    /// The most members; 0 for all.
    pub(super) count: usize,
    /// Whether the first members found will do.
    pub(super) any: bool,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_point: bool,
    /// The position of the key to keep the result at.
    pub(super) store_at: Option<usize>,
    /// Whether distances are kept and not places.
    pub(super) store_distance: bool,
}

/// Where the centre is that a member stands for while there is no sorted set.
const NOWHERE: Point = Point { longitude: 0.0, latitude: 0.0 };

impl Query {
    /// Reads the arguments of a command. `stores` tells whether STORE and STOREDIST are allowed
    /// among those of the GEORADIUS family.
    pub(super) fn parse(
        args: &Args<'_>,
        form: Form,
        stores: bool,
        zset: Option<&Zset>,
    ) -> Result<Self, CommandError> {
        let (mut query, first) = Self::begin(args, form, zset)?;
        let mut at = first;
        while at < args.len() {
            at += match query.accept_flag(args, at, form) {
                true => 1,
                false => query.accept(args, at, form, stores, zset)?,
            };
        }
        query.check(args, form)?;
        Ok(query)
    }

    /// What is to be searched.
    pub(super) fn search(&self) -> Option<Search> {
        let (shape, unit_m) = self.shape?;
        Some(Search { center: self.center?, shape, unit_m })
    }

    /// What stands in front of the options, and the position of the first of these.
    fn begin(
        args: &Args<'_>,
        form: Form,
        zset: Option<&Zset>,
    ) -> Result<(Self, usize), CommandError> {
        let mut query = Self {
            center: None,
            is_member: false,
            shape: None,
            order: Order::Any,
            count: 0,
            any: false,
            with_distance: false,
            with_hash: false,
            with_point: false,
            store_at: (form == Form::SearchStore).then_some(1),
            store_distance: false,
        };
        let first = match form {
            Form::Around => {
                query.center = Some(parse_point(&args[2], &args[3])?);
                query.shape = Some(parse_circle(&args[4], &args[5])?);
                6
            }
            Form::AroundMember => {
                query.center = Some(place_of(zset, &args[2])?);
                // Redis does not look at it where there is nothing to search.
                if zset.is_some() {
                    query.shape = Some(parse_circle(&args[3], &args[4])?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => 3,
        };
        Ok((query, first))
    }

    /// Takes in an option of one word.
    fn accept_flag(&mut self, args: &Args<'_>, at: usize, form: Form) -> bool {
        let is = |name: &str| args[at].eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("WITHDIST") => self.with_distance = true,
            () if is("WITHHASH") => self.with_hash = true,
            () if is("WITHCOORD") => self.with_point = true,
            () if is("ANY") => self.any = true,
            () if is("ASC") => self.order = Order::Ascending,
            () if is("DESC") => self.order = Order::Descending,
            () if is("STOREDIST") && form == Form::SearchStore => self.store_distance = true,
            () => return false,
        }
        true
    }

    /// Takes in an option of several words; how many.
    fn accept(
        &mut self,
        args: &Args<'_>,
        at: usize,
        form: Form,
        stores: bool,
        zset: Option<&Zset>,
    ) -> Result<usize, CommandError> {
        let behind = args.len() - at - 1;
        let is = |name: &str, words: usize| {
            behind >= words && args[at].eq_ignore_ascii_case(name.as_bytes())
        };
        let searches = matches!(form, Form::Search | Form::SearchStore);
        let is_circle = matches!(self.shape, Some((Shape::Circle(_), _)));
        let is_rectangle = matches!(self.shape, Some((Shape::Rectangle(..), _)));
        if is("COUNT", 1) {
            self.count = parse_count(&args[at + 1])?;
            return Ok(2);
        }
        if !searches && stores && (is("STORE", 1) || is("STOREDIST", 1)) {
            self.store_at = Some(at + 1);
            self.store_distance = is("STOREDIST", 1);
            return Ok(2);
        }
        if searches && is("FROMMEMBER", 1) && (self.center.is_none() || self.is_member) {
            self.is_member = true;
            self.center = Some(place_of(zset, &args[at + 1])?);
            return Ok(2);
        }
        if searches && is("FROMLONLAT", 2) && !self.is_member {
            self.center = Some(parse_point(&args[at + 1], &args[at + 2])?);
            return Ok(3);
        }
        if searches && is("BYRADIUS", 2) && !is_rectangle {
            self.shape = Some(parse_circle(&args[at + 1], &args[at + 2])?);
            return Ok(3);
        }
        if searches && is("BYBOX", 3) && !is_circle {
            self.shape = Some(parse_rectangle(args, at + 1)?);
            return Ok(4);
        }
        Err(CommandError::Syntax)
    }

    fn check(&self, args: &Args<'_>, form: Form) -> Result<(), CommandError> {
        let searches = matches!(form, Form::Search | Form::SearchStore);
        let shows = self.with_distance || self.with_hash || self.with_point;
        if self.store_at.is_some() && shows {
            let name = if searches { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(CommandError::text(format!(
                "ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let missing = match (self.center, self.shape) {
            _ if !searches => None,
            (None, _) => Some("exactly one of FROMMEMBER or FROMLONLAT"),
            (_, None) => Some("exactly one of BYRADIUS and BYBOX"),
            _ => None,
        };
        if let Some(missing) = missing {
            let command = String::from_utf8_lossy(&args[0]);
            return Err(CommandError::text(format!(
                "ERR {missing} can be specified for {command}"
            )));
        }
        if self.any && self.count == 0 {
            return Err(CommandError::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

/// The place of a member.
fn place_of(zset: Option<&Zset>, member: &[u8]) -> Result<Point, CommandError> {
    let Some(zset) = zset else { return Ok(NOWHERE) };
    zset.score(member)
        .map(Point::from_score)
        .ok_or(CommandError::text("ERR could not decode requested zset member"))
}

fn parse_circle(radius: &[u8], unit: &[u8]) -> Result<(Shape, f64), CommandError> {
    let radius = parse_f64(radius).ok_or(CommandError::text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(CommandError::text("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle(radius), parse_unit(unit)?))
}

/// Width, height and unit, from argument `at` on.
fn parse_rectangle(args: &Args<'_>, at: usize) -> Result<(Shape, f64), CommandError> {
    let width = parse_f64(&args[at]).ok_or(CommandError::text("ERR need numeric width"))?;
    let height = parse_f64(&args[at + 1]).ok_or(CommandError::text("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::text("ERR height or width cannot be negative"));
    }
    Ok((Shape::Rectangle(width, height), parse_unit(&args[at + 2])?))
}

fn parse_count(text: &[u8]) -> Result<usize, CommandError> {
    let count = parse_i64(text).ok_or(CommandError::NotAnInteger)?;
    usize::try_from(count)
        .ok()
        .filter(|&count| count > 0)
        .ok_or(CommandError::text("ERR COUNT must be > 0"))
}
