//! Which transactions a snapshot sees: `pg_current_snapshot()`, and the transaction ids of
//! the stream.
//!
//! The snapshot counts transactions with 64 bits, the stream has the low 32 of them, as the
//! WAL does. They are of the same half cycle: a slot holds back the horizon behind which the
//! server would let ids begin anew, so the stream is never half a cycle behind the snapshot.
//! Both name the transaction at the top, never a subtransaction: the ids that a snapshot lists
//! as running are those of backends and of prepared transactions, and a commit is streamed
//! under the id of the transaction at the top, that of a prepared one under its own.

/// A snapshot: the transactions that had ended when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    /// All before it had ended.
    xmin: u64,
    /// None from it on had ended.
    xmax: u64,
    /// Those between that had not, in order.
    running: Vec<u64>,
}

impl Visible {
    /// Reads `xmin:xmax:xip,xip,…`. None for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let list = parts.next()?;
        let mut running: Vec<u64> = if list.is_empty() {
            Vec::new()
        } else {
            let numbers = list.split(',').map(|number| number.parse().ok());
            numbers.collect::<Option<_>>()?
        };
        running.sort_unstable();
        (xmin <= xmax).then_some(Visible {
            xmin,
            xmax,
            running,
        })
    }

    /// Whether the transaction had ended, by the id that the stream has of it.
    pub(crate) fn sees(&self, xid: u32) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether every transaction that this one saw running has ended by `later`.
    pub(crate) fn is_over_by(&self, later: &Visible) -> bool {
        self.running
            .iter()
            .all(|xid| *xid < later.xmin || later.running.binary_search(xid).is_err())
    }

    /// Those that this one saw running and `later` too.
    pub(crate) fn still_running<'v>(
        &'v self,
        later: &'v Visible,
    ) -> impl Iterator<Item = u64> + use<'v> {
        let running = self.running.iter().copied();
        running.filter(|xid| later.running.binary_search(xid).is_ok())
    }

    /// The id of 64 bits, the nearest to `xmax` of those that end in these 32.
    fn widen(&self, xid: u32) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // what it is for
        let distance = xid.wrapping_sub(self.xmax as u32) as i32;
        self.xmax.saturating_add_signed(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot = Visible::parse("10:20:12,10,15").unwrap();
        let seen: Vec<u32> = (8..23).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 13, 14, 16, 17, 18, 19]);
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "2:1:", "a:2:", "1:2:x", "1:2:1,"] {
            assert_eq!(Visible::parse(text), None, "{text}");
        }
        assert!(Visible::parse("1:1:").is_some());
    }

    #[test]
    fn a_snapshot_is_over_when_all_that_it_saw_running_has_ended() {
        let first = Visible::parse("10:20:10,15").unwrap();
        let later = |text: &str| Visible::parse(text).unwrap();
        assert!(!first.is_over_by(&later("15:30:15,22")));
        assert_eq!(
            first
                .still_running(&later("15:30:15,22"))
                .collect::<Vec<_>>(),
            [15]
        );
        assert!(first.is_over_by(&later("22:30:22")));
        assert!(first.is_over_by(&later("30:30:")));
    }

    proptest! {
        #[test]
        fn an_id_of_the_stream_is_the_one_that_is_near(
            xmax in (1_u64 << 31)..(1 << 40),
            distance in -0x7FFF_FFFF_i64..0x7FFF_FFFF,
        ) {
            let xid = xmax.saturating_add_signed(distance);
            let snapshot = Visible { xmin: xmax, xmax, running: Vec::new() };
            prop_assert_eq!(snapshot.widen(xid as u32), xid);
            prop_assert_eq!(snapshot.sees(xid as u32), xid < xmax);
        }
    }
}
