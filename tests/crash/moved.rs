//! Elements that are moved from one list to another while the server dies: each is in one of them.
//!
//! A writer pushes its elements in their order at the left of a list, and movers take them from the
//! right and put them at the left of another one. So both lists, the second one behind the first, hold
//! all elements, the newest first: one that was lost or doubled by half a move is seen as a gap or a
//! repetition, and so is a move that came back without one before it.

/// The ways in which elements are moved from the list FROM to the list TO. Those that wait get what is
/// pushed while they do, as a part of the push; between others some time passes.
pub(super) const WAYS: [&str; 6] = [
    "BLMOVE FROM TO RIGHT LEFT 0",
    "RPOPLPUSH FROM TO",
    "BRPOPLPUSH FROM TO 0",
    "BLMOVE FROM TO RIGHT LEFT 0",
    "LMOVE FROM TO RIGHT LEFT",
    "BLMOVE FROM TO RIGHT LEFT 0.01",
];

/// A writer's elements, from the left of each list.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) waiting: Vec<i64>,
    pub(super) moved: Vec<i64>,
}

impl Lists {
    /// The newest element of all; 0 if there is none.
    pub(super) fn newest(&self) -> i64 {
        self.waiting.iter().chain(&self.moved).copied().max().unwrap_or(0)
    }

    /// The last element that was moved, if each of the elements 1 to `newest` is in its place, and
    /// nowhere else; 0 if none was moved.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn check(&self, newest: i64) -> Result<i64, String> {
        let all = self.waiting.iter().chain(&self.moved).copied();
        if all.eq((1..=newest).rev()) {
            return Ok(self.moved.first().copied().unwrap_or(0));
        }
        Err(format!("not each of {newest} elements is in one list: {self:?}"))
    }
}

#[test]
fn elements_that_are_lost_or_doubled_by_a_move_are_objected_to() {
    let check = |waiting: &[i64], moved: &[i64]| {
        let lists = Lists { waiting: waiting.to_vec(), moved: moved.to_vec() };
        lists.check(lists.newest())
    };
    assert_eq!(check(&[], &[]), Ok(0));
    assert_eq!(check(&[2, 1], &[]), Ok(0));
    assert_eq!(check(&[4, 3], &[2, 1]), Ok(2));
    assert_eq!(check(&[], &[2, 1]), Ok(2));
    assert!(check(&[4], &[2, 1]).is_err(), "3 is lost");
    assert!(check(&[4, 3], &[3, 2, 1]).is_err(), "3 is in both");
    assert!(check(&[4, 3, 2, 1], &[2, 1]).is_err(), "nothing was taken");
    assert!(check(&[4, 2], &[3, 1]).is_err(), "3 was moved before 2");
    assert!(check(&[3], &[1, 2]).is_err(), "2 was moved before 1");
}
