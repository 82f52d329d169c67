//! Places, distances and covers against what redis-server says and against looking everywhere.

use proptest::{collection::vec, prelude::*};

use super::*;

fn point() -> impl Strategy<Value = Point> {
    let longitude = prop_oneof![3 => -180.0..=180.0, 1 => Just(180.0), 1 => Just(-180.0)];
    let latitude = prop_oneof![3 => -85.0..=85.0, 1 => 84.0..=85.0, 1 => -85.0..=-84.0];
    (longitude, latitude).prop_map(|(longitude, latitude)| Point { longitude, latitude })
}

proptest! {
    #[test]
    fn a_place_is_kept_within_a_metre(point in point()) {
        let kept = Point::from_score(point.score());
        prop_assert!(point.distance_m(kept) < 1.0, "{point:?} {kept:?}");
        prop_assert_eq!(kept.score(), point.score());
    }

    /// Away from the poles and the date line, where Redis itself does not look across.
    #[test]
    fn cells_cover_what_is_near(
        longitude in -90.0..90.0_f64,
        latitude in -60.0..60.0_f64,
        reach_m in 1.0..2_000_000.0_f64,
        is_circle: bool,
        around in vec((-1.0..1.0_f64, -1.0..1.0_f64), 1..40),
    ) {
        let center = Point { longitude, latitude };
        let shape = if is_circle {
            Shape::Circle(reach_m)
        } else {
            Shape::Rectangle(2.0 * reach_m, reach_m)
        };
        let search = Search { center, shape, unit_m: 1.0 };
        let cells: Vec<Cell> = search.cells().collect();
        prop_assert!(cells.len() <= 9);
        for (aside, up) in around {
            let spread = 2.0 * reach_m / 100_000.0;
            let Some(point) = Point::new(longitude + aside * spread, latitude + up * spread) else {
                continue;
            };
            if search.distance_m(point).is_some() {
                let score = point.score();
                prop_assert!(cells.iter().any(|cell| cell.scores().contains(&score)));
            }
        }
    }

    #[test]
    fn any_score_is_a_place(score: f64, longitude in -180.0..180.0_f64, radius: f64) {
        let point = Point::from_score(score);
        prop_assert!(Point::new(point.longitude, point.latitude).is_some());
        let center = Point { longitude, latitude: 85.0 };
        let shape = Shape::Circle(radius.abs());
        let search = Search { center, shape, unit_m: 1609.34 };
        prop_assert!(search.cells().count() <= 9);
    }
}

#[test]
fn places_are_where_redis_has_them() {
    let palermo = Point::new(13.361389, 38.115556).expect("a place");
    let catania = Point::new(15.087269, 37.502669).expect("a place");
    assert_eq!(palermo.score(), 3_479_099_956_230_698.0);
    let (palermo, catania) =
        (Point::from_score(palermo.score()), Point::from_score(catania.score()));
    assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
    assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
    assert!((palermo.distance_m(catania) - 166_274.151_6).abs() < 1e-3);
    assert!(Point::new(0.0, 85.06).is_none() && Point::new(180.1, 0.0).is_none());
}

#[test]
fn the_distance_along_a_meridian_needs_no_trigonometry() {
    let at = |latitude| Point { longitude: 10.0, latitude };
    assert_eq!(at(1.0).distance_m(at(2.0)), latitude_distance_m(1.0, 2.0));
    assert_eq!(at(1.0).distance_m(at(1.0)), 0.0);
}
