//! `make bench-micro`: nanoseconds and allocations of the writers that make a row, and of
//! the parser that takes frames apart. For whoever changes one of them: what a row costs
//! in a server is `make bench-plugin`'s to say.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use headwater_protocol::Lsn;
use headwater_protocol::frame::{Begin, Commit, Frames, Op, write};
use headwater_protocol::json;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    let mut row = Vec::new();
    append_row(&mut row);
    assert_eq!(
        String::from_utf8_lossy(&row),
        r#"{"id":123456,"qty":42,"title":"a title of forty characters, more or less","price":1234.50,"created":"2024-02-29T12:34:56.789+00:00","active":true,"uid":"5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a","doc":{"a": 1, "b": "x1"},"note":null}"#
    );
    divan::main();
}

/// 1234.50, as the server stores it: short header of scale 2 and weight 0, digits.
const NUMERIC: [u8; 6] = [0x00, 0x81, 0xD2, 0x04, 0x88, 0x13];

/// `{"a": 1, "b": "x1"}`, as the server stores it.
const JSONB: [u8; 34] = [
    0x02, 0, 0, 0x20, // an object of two
    0x01, 0, 0, 0x80, // key of 1 byte, ending at 1
    0x01, 0, 0, 0x00, // key of 1 byte
    0x0A, 0, 0, 0x10, // numeric of 10 bytes, with its padding
    0x02, 0, 0, 0x00, // string of 2 bytes
    b'a', b'b', 0, 0, 0x20, 0, 0, 0, 0x00, 0x80, 0x01, 0x00, b'x', b'1',
];

const TITLE: &str = "a title of forty characters, more or less";

/// 2024-02-29 12:34:56.789 UTC in microseconds since 2000.
const TIMESTAMP: i64 = 762_525_296_789_000;

/// One value into a buffer that is kept, as in the server.
fn value(bencher: Bencher<'_, '_>, mut writes: impl FnMut(&mut Vec<u8>)) {
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        writes(black_box(&mut out));
    });
}

#[divan::bench]
fn integer(bencher: Bencher<'_, '_>) {
    value(bencher, |out| json::integer(out, black_box(1_234_567)));
}

#[divan::bench]
fn numeric(bencher: Bencher<'_, '_>) {
    value(bencher, |out| {
        let _written = json::numeric(out, black_box(&NUMERIC));
    });
}

#[divan::bench]
fn timestamptz(bencher: Bencher<'_, '_>) {
    value(bencher, |out| json::timestamptz(out, black_box(TIMESTAMP)));
}

#[divan::bench]
fn text_of_41_bytes(bencher: Bencher<'_, '_>) {
    value(bencher, |out| {
        json::string(out, black_box(TITLE.as_bytes()))
    });
}

#[divan::bench]
fn text_of_100_kilobytes(bencher: Bencher<'_, '_>) {
    let text = TITLE.repeat(2500);
    value(bencher, |out| json::string(out, black_box(text.as_bytes())));
}

#[divan::bench]
fn uuid(bencher: Bencher<'_, '_>) {
    value(bencher, |out| json::uuid(out, black_box(&[0x5A; 16])));
}

#[divan::bench]
fn jsonb(bencher: Bencher<'_, '_>) {
    value(bencher, |out| {
        let _written = json::jsonb(out, black_box(&JSONB));
    });
}

/// Eight columns without a server: what is left of a row when decoding and the tuple are
/// taken away.
#[divan::bench]
fn row(bencher: Bencher<'_, '_>) {
    value(bencher, append_row);
}

fn append_row(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    json::integer(out, black_box(123_456));
    out.extend_from_slice(b",\"qty\":");
    json::integer(out, black_box(42));
    out.extend_from_slice(b",\"title\":");
    json::string(out, black_box(TITLE.as_bytes()));
    out.extend_from_slice(b",\"price\":");
    let _written = json::numeric(out, black_box(&NUMERIC));
    out.extend_from_slice(b",\"created\":");
    json::timestamptz(out, black_box(TIMESTAMP));
    out.extend_from_slice(b",\"active\":true,\"uid\":");
    json::uuid(out, black_box(&[0x5A; 16]));
    out.extend_from_slice(b",\"doc\":");
    let _written = json::jsonb(out, black_box(&JSONB));
    out.extend_from_slice(b",\"note\":null}");
}

/// A write of 200 rows, which is about what one holds.
#[divan::bench]
fn frames(bencher: Bencher<'_, '_>) {
    const ROWS: u64 = 200;
    let mut bytes = Vec::new();
    let begin = Begin {
        xid: 7,
        commit_lsn: Lsn(1),
        end_lsn: Lsn(2),
        commit_time: 3,
    };
    write::begin(&mut bytes, &begin);
    for seq in 0..ROWS {
        let change = write::change(&mut bytes, Op::Create, 16_385, seq);
        let key = change.section(&mut bytes);
        bytes.extend_from_slice(b"{\"id\":123456}");
        key.end(&mut bytes);
        change.absent(&mut bytes);
        let row = change.section(&mut bytes);
        append_row(&mut bytes);
        row.end(&mut bytes);
        change.finish(&mut bytes, std::iter::empty());
    }
    write::commit(
        &mut bytes,
        &Commit {
            end_lsn: Lsn(2),
            changes: ROWS,
        },
    );
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench(|| Frames::new(black_box(&bytes)).filter(Result::is_ok).count());
}
