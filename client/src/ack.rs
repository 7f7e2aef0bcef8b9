//! Which position may be acknowledged to Postgres.
//!
//! ```text
//! begin ─► token ─► sent ─► … ─► commit          in commit order, as Postgres streams
//!            └────► delivered, in any order       as the sink reports
//!                        └─► flush_lsn            the position that Postgres may forget
//! ```
//!
//! # Why it is correct
//!
//! Postgres streams whole transactions in the order of their commits, so their end
//! positions only grow. The flush position moves past a transaction when it is
//! complete, every record sent for it was delivered, and the same holds for every
//! transaction before it: the front of a queue. A position that is acknowledged
//! therefore has nothing undelivered behind it, whatever the order of the reports.
//! A logical message outside transactions stands in the queue like a transaction that
//! ends with it: the server sends it when it reads its record, between the commits
//! around it, so the order holds.
//!
//! A keepalive says that the server has sent everything before a position. What it
//! names is durable as soon as the last transaction before it is: at once when
//! nothing is in flight, otherwise when that transaction leaves the queue. While a
//! transaction is still arriving, a keepalive says nothing that may be used, because
//! the rest of that transaction lies behind it.
//!
//! # Cost
//!
//! A token is a running number, so a report finds its transaction by subtraction:
//! constant time a record, and memory for the transactions in flight alone.

use std::collections::VecDeque;

use headwater_protocol::Lsn;

use crate::sink::{Delivered, Token};

/// The transactions in flight and the position before them.
#[derive(Debug)]
pub struct Ack {
    /// The token of the first transaction in the queue.
    first: u64,
    transactions: VecDeque<Transaction>,
    flushed: Lsn,
}

#[derive(Debug)]
struct Transaction {
    /// What the flush position becomes when this leaves the queue.
    end_lsn: Lsn,
    sent: u64,
    delivered: u64,
    complete: bool,
}

impl Ack {
    /// Nothing in flight and everything before `position` durable.
    pub fn new(position: Lsn) -> Self {
        Ack {
            first: 0,
            transactions: VecDeque::new(),
            flushed: position,
        }
    }

    /// A transaction that ends at `end_lsn` begins to arrive.
    pub fn begin(&mut self, end_lsn: Lsn) -> Token {
        let token = Token(self.first + self.transactions.len() as u64);
        self.transactions.push_back(Transaction {
            end_lsn,
            sent: 0,
            delivered: 0,
            complete: false,
        });
        token
    }

    /// The sink has accepted one more record of the transaction.
    pub fn sent(&mut self, token: Token) {
        if let Some(transaction) = self.transaction(token) {
            transaction.sent += 1;
        }
    }

    /// The transaction has arrived whole.
    pub fn commit(&mut self, token: Token) {
        if let Some(transaction) = self.transaction(token) {
            transaction.complete = true;
        }
        self.retire();
    }

    /// The connection broke while the transaction arrived: it will come again from its
    /// beginning under another token. Its own end is never acknowledged.
    pub fn abandon(&mut self, token: Token) {
        if let Some(transaction) = self.transaction(token) {
            transaction.end_lsn = Lsn::INVALID;
            transaction.complete = true;
        }
        self.retire();
    }

    /// The sink reports records as delivered.
    pub fn delivered(&mut self, delivered: Delivered) {
        if let Some(transaction) = self.transaction(delivered.token) {
            transaction.delivered += delivered.count;
        }
        self.retire();
    }

    /// The server says that everything before `wal_end` was sent.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        match self.transactions.back_mut() {
            None => self.flushed = self.flushed.max(wal_end),
            Some(last) if last.complete => last.end_lsn = last.end_lsn.max(wal_end),
            Some(_) => {}
        }
    }

    /// The highest position such that every record of every transaction that ends at
    /// or before it is delivered. It never moves back.
    pub fn flush_lsn(&self) -> Lsn {
        self.flushed
    }

    /// The end of the last transaction that has arrived whole, delivered or not, from which the
    /// stream can go on in this process.
    pub fn received_lsn(&self) -> Lsn {
        let complete = self.transactions.iter().filter(|it| it.complete);
        let ends = complete.map(|transaction| transaction.end_lsn);
        ends.fold(self.flushed, Lsn::max)
    }

    /// How many transactions are in flight, for which memory is held.
    pub fn in_flight(&self) -> usize {
        self.transactions.len()
    }

    /// Whether a transaction has records that are not delivered, or has not arrived whole.
    pub fn is_idle(&self) -> bool {
        self.transactions.is_empty()
    }

    /// A transaction in flight; none once it has left the queue.
    fn transaction(&mut self, token: Token) -> Option<&mut Transaction> {
        let index = token.0.checked_sub(self.first)?;
        self.transactions.get_mut(usize::try_from(index).ok()?)
    }

    fn retire(&mut self) {
        while let Some(front) = self.transactions.front() {
            if !front.complete || front.delivered < front.sent {
                return;
            }
            self.flushed = self.flushed.max(front.end_lsn);
            self.transactions.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(token: Token) -> Delivered {
        Delivered { token, count: 1 }
    }

    #[test]
    fn a_transaction_is_acknowledged_when_complete_and_delivered() {
        let mut ack = Ack::new(Lsn(10));
        let token = ack.begin(Lsn(20));
        ack.sent(token);
        assert_eq!(ack.flush_lsn(), Lsn(10), "nothing is delivered");
        ack.delivered(one(token));
        assert_eq!(ack.flush_lsn(), Lsn(10), "more may follow");
        ack.commit(token);
        assert_eq!(ack.flush_lsn(), Lsn(20));
        assert!(ack.is_idle());
    }

    #[test]
    fn a_transaction_without_records_is_acknowledged_at_its_commit() {
        let mut ack = Ack::new(Lsn(10));
        let token = ack.begin(Lsn(20));
        ack.commit(token);
        assert_eq!(ack.flush_lsn(), Lsn(20));
    }

    #[test]
    fn a_late_report_holds_back_every_later_transaction() {
        let mut ack = Ack::new(Lsn(0));
        let tokens: Vec<Token> = (1..=3)
            .map(|end| {
                let token = ack.begin(Lsn(end * 10));
                ack.sent(token);
                ack.commit(token);
                token
            })
            .collect();
        ack.delivered(one(tokens[2]));
        ack.delivered(one(tokens[1]));
        assert_eq!(ack.flush_lsn(), Lsn(0));
        ack.delivered(one(tokens[0]));
        assert_eq!(ack.flush_lsn(), Lsn(30));
    }

    #[test]
    fn a_keepalive_moves_the_position_when_idle() {
        let mut ack = Ack::new(Lsn(10));
        ack.keepalive(Lsn(15));
        assert_eq!(ack.flush_lsn(), Lsn(15));
        ack.keepalive(Lsn(12));
        assert_eq!(ack.flush_lsn(), Lsn(15), "it never moves back");
    }

    #[test]
    fn a_keepalive_behind_a_transaction_counts_once_that_is_delivered() {
        let mut ack = Ack::new(Lsn(10));
        let token = ack.begin(Lsn(20));
        ack.sent(token);
        ack.commit(token);
        ack.keepalive(Lsn(30));
        assert_eq!(ack.flush_lsn(), Lsn(10));
        ack.delivered(one(token));
        assert_eq!(ack.flush_lsn(), Lsn(30));
    }

    #[test]
    fn a_keepalive_within_a_transaction_says_nothing() {
        let mut ack = Ack::new(Lsn(10));
        let token = ack.begin(Lsn(20));
        ack.keepalive(Lsn(30));
        ack.commit(token);
        assert_eq!(ack.flush_lsn(), Lsn(20));
    }

    #[test]
    fn what_has_arrived_whole_counts_as_received() {
        let mut ack = Ack::new(Lsn(10));
        assert_eq!(ack.received_lsn(), Lsn(10));
        let first = ack.begin(Lsn(20));
        ack.sent(first);
        ack.commit(first);
        let second = ack.begin(Lsn(30));
        assert_eq!((ack.received_lsn(), ack.flush_lsn()), (Lsn(20), Lsn(10)));
        ack.abandon(second);
        assert_eq!(ack.received_lsn(), Lsn(20), "it comes again");
        ack.delivered(one(first));
        assert_eq!((ack.received_lsn(), ack.flush_lsn()), (Lsn(20), Lsn(20)));
    }

    #[test]
    fn an_abandoned_transaction_is_never_acknowledged_and_blocks_nothing() {
        let mut ack = Ack::new(Lsn(10));
        let first = ack.begin(Lsn(20));
        ack.sent(first);
        ack.abandon(first);
        let again = ack.begin(Lsn(20));
        ack.sent(again);
        ack.commit(again);
        ack.delivered(one(again));
        assert_eq!(
            ack.flush_lsn(),
            Lsn(10),
            "the abandoned record is not reported"
        );
        ack.delivered(one(first));
        assert_eq!(ack.flush_lsn(), Lsn(20));
    }

    /// What the tracker must equal: every transaction ever begun, kept for ever.
    #[derive(Default)]
    struct Model {
        transactions: Vec<(Lsn, u64, u64, bool)>,
    }

    impl Model {
        fn flush_lsn(&self) -> Lsn {
            self.transactions
                .iter()
                .take_while(|(_, sent, delivered, complete)| *complete && sent == delivered)
                .map(|(end, ..)| *end)
                .last()
                .unwrap_or(Lsn(0))
        }
    }

    proptest! {
        #[test]
        fn the_position_is_that_of_the_delivered_prefix(
            steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..200)
        ) {
            let mut ack = Ack::new(Lsn(0));
            let mut model = Model::default();
            for (step, pick) in steps {
                let open = model.transactions.last().is_some_and(|(.., complete)| !complete);
                let last = model.transactions.len().saturating_sub(1);
                match step {
                    0 if !open => {
                        let end = Lsn(10 * (model.transactions.len() as u64 + 1));
                        let token = ack.begin(end);
                        prop_assert_eq!(token, Token(model.transactions.len() as u64));
                        model.transactions.push((end, 0, 0, false));
                    }
                    1 if open => {
                        ack.sent(Token(last as u64));
                        model.transactions[last].1 += 1;
                    }
                    2 if open => {
                        ack.commit(Token(last as u64));
                        model.transactions[last].3 = true;
                    }
                    _ => {
                        let owed: Vec<usize> = (0..model.transactions.len())
                            .filter(|&i| model.transactions[i].2 < model.transactions[i].1)
                            .collect();
                        if !owed.is_empty() {
                            let index = *pick.get(&owed);
                            ack.delivered(one(Token(index as u64)));
                            model.transactions[index].2 += 1;
                        }
                    }
                }
                prop_assert_eq!(ack.flush_lsn(), model.flush_lsn());
            }
        }
    }
}
