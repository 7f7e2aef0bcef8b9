//! How a value becomes bytes: the final dispatch on its type, decided once.
//!
//! JSON is what the server's own `row_to_json` says, value by value, so the tree follows
//! `json_categorize_type` in `json.c`: domains are looked through, true arrays become
//! arrays, row types objects, and everything that JSON has no form for the text of its
//! output function. Two things differ. Types that users meet every day are written
//! without their output function, in the same bytes. And a cast to `json`, which
//! `row_to_json` would run for types of extensions, is never run while decoding, since it
//! may read user tables: such a type goes by its text, and `hstore`, whose layout is
//! known, as the object that its cast would make.
//!
//! # Sharing and depth
//!
//! Each row type is compiled once a plan, however often it occurs: twenty types that each
//! hold the one before twice would otherwise be a million attributes. A row type cannot
//! hold itself, not even through an array (`CheckAttributeType` in `heap.c`), so a shared
//! one is never entered twice at a time. Depth is bounded here, so encoding needs no bound
//! of its own: a row type that was compiled further up brings its own levels along, and is
//! shared only where they fit.

use std::cell::RefCell;
use std::rc::Rc;

use headwater_protocol::json;
use pgrx::pg_sys::{self, Oid};

use crate::pg::{
    Attribute, CompositeType, DatabaseEncoding, ElementLayout, EnumLabels, OutputFunction,
    TypeKind, base_type, is_hstore, type_kind,
};

/// Arrays and row types within each other. A level takes less than a kilobyte of stack, and
/// the server leaves itself 512 of them beyond `max_stack_depth`.
const MAX_DEPTH: usize = 100;

/// How a column's value becomes bytes.
pub(crate) enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Also `xid` and `cid`, which are unsigned as well.
    Oid,
    Xid8,
    Float4,
    Float8,
    Numeric,
    Money,
    Text,
    Name,
    /// `"char"`.
    Char,
    Uuid,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Bytea,
    Bits,
    Inet,
    Cidr,
    /// `macaddr` and `macaddr8`, of 6 and 8 bytes.
    MacAddr,
    MacAddr8,
    PgLsn,
    Tid,
    Json,
    Jsonb,
    /// Text, unless it begins with what the output function takes away.
    Xml(Box<OutputFunction>),
    Hstore,
    Enum(Box<EnumLabels>),
    Array(Box<ArrayCodec>),
    Composite(Rc<RefCell<CompositeCodec>>),
    /// Any other type: the text of its output function.
    Output(Box<OutputFunction>),
    /// A row type with an attribute whose name has no UTF-8.
    Unnameable,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// An array's elements.
pub(crate) struct ArrayCodec {
    /// What the array's header has to name: a domain, where the column is declared so.
    pub(crate) element_type: u32,
    pub(crate) layout: ElementLayout,
    pub(crate) element: Codec,
}

/// A row type's attributes.
pub(crate) struct CompositeCodec {
    pub(crate) composite: CompositeType,
    pub(crate) attributes: Vec<AttributeCodec>,
}

/// An attribute of a row type.
pub(crate) struct AttributeCodec {
    pub(crate) attribute: Attribute,
    pub(crate) codec: Codec,
    /// `,"name":` as it stands in every value.
    pub(crate) prefix: Vec<u8>,
}

/// Compiles the codecs of one plan.
pub(crate) struct CodecCompiler {
    encoding: DatabaseEncoding,
    composites: Vec<KnownComposite>,
    depends_on: Vec<u32>,
    depth: usize,
    /// The greatest depth since the row type under way began.
    deepest: usize,
}

/// A row type that was compiled.
struct KnownComposite {
    type_oid: u32,
    codec: Rc<RefCell<CompositeCodec>>,
    /// Levels below it.
    levels: usize,
}

impl CodecCompiler {
    pub(crate) fn new(encoding: DatabaseEncoding) -> Self {
        CodecCompiler {
            encoding,
            composites: Vec::new(),
            depends_on: Vec::new(),
            depth: 0,
            deepest: 0,
        }
    }

    /// The relations (`pg_class.oid`) of the row types that were compiled: each changes
    /// with its type.
    pub(crate) fn into_dependencies(self) -> Vec<u32> {
        self.depends_on
    }

    pub(crate) fn codec(&mut self, type_oid: u32) -> Codec {
        let type_oid = base_type(type_oid);
        if let Some(codec) = built_in(type_oid) {
            return codec;
        }
        if self.depth == MAX_DEPTH {
            return Codec::TooDeep;
        }
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let codec = match type_kind(type_oid) {
            TypeKind::Array { element } => self.array(element),
            TypeKind::Composite => self.composite(type_oid),
            TypeKind::Enum => Codec::Enum(Box::default()),
            TypeKind::Other if is_hstore(type_oid) => Codec::Hstore,
            TypeKind::Other => output(type_oid),
        };
        self.depth -= 1;
        codec
    }

    fn array(&mut self, element_type: u32) -> Codec {
        Codec::Array(Box::new(ArrayCodec {
            element_type,
            layout: ElementLayout::of(element_type),
            element: self.codec(element_type),
        }))
    }

    fn composite(&mut self, type_oid: u32) -> Codec {
        let known = self
            .composites
            .iter()
            .find(|known| known.type_oid == type_oid);
        if let Some(known) = known {
            let deepest = self.depth + known.levels;
            if deepest > MAX_DEPTH {
                return Codec::TooDeep;
            }
            self.deepest = self.deepest.max(deepest);
            return Codec::Composite(Rc::clone(&known.codec));
        }
        let Some((composite, attributes)) = CompositeType::load(type_oid, self.encoding) else {
            return output(type_oid);
        };
        self.depends_on.push(composite.relation);
        if !composite.names_are_exact {
            return Codec::Unnameable;
        }
        let outside = std::mem::replace(&mut self.deepest, self.depth);
        let attributes = attributes
            .into_iter()
            .map(|attribute| AttributeCodec {
                attribute: attribute.attribute,
                codec: self.codec(attribute.type_oid),
                prefix: member_prefix(&attribute.name),
            })
            .collect();
        let codec = Rc::new(RefCell::new(CompositeCodec {
            composite,
            attributes,
        }));
        self.composites.push(KnownComposite {
            type_oid,
            codec: Rc::clone(&codec),
            levels: self.deepest - self.depth,
        });
        self.deepest = self.deepest.max(outside);
        Codec::Composite(codec)
    }
}

/// `,"name":`
pub(crate) fn member_prefix(name: &str) -> Vec<u8> {
    let mut prefix = vec![b','];
    json::string(&mut prefix, name.as_bytes());
    prefix.push(b':');
    prefix
}

/// The types whose OIDs are the same on every server.
fn built_in(type_oid: u32) -> Option<Codec> {
    Some(match Oid::from(type_oid) {
        pg_sys::BOOLOID => Codec::Bool,
        pg_sys::INT2OID => Codec::Int2,
        pg_sys::INT4OID => Codec::Int4,
        pg_sys::INT8OID => Codec::Int8,
        pg_sys::OIDOID | pg_sys::XIDOID | pg_sys::CIDOID => Codec::Oid,
        pg_sys::XID8OID => Codec::Xid8,
        pg_sys::FLOAT4OID => Codec::Float4,
        pg_sys::FLOAT8OID => Codec::Float8,
        pg_sys::NUMERICOID => Codec::Numeric,
        pg_sys::MONEYOID => Codec::Money,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Codec::Text,
        pg_sys::NAMEOID => Codec::Name,
        pg_sys::CHAROID => Codec::Char,
        pg_sys::UUIDOID => Codec::Uuid,
        pg_sys::DATEOID => Codec::Date,
        pg_sys::TIMEOID => Codec::Time,
        pg_sys::TIMETZOID => Codec::TimeTz,
        pg_sys::TIMESTAMPOID => Codec::Timestamp,
        pg_sys::TIMESTAMPTZOID => Codec::TimestampTz,
        pg_sys::INTERVALOID => Codec::Interval,
        pg_sys::BYTEAOID => Codec::Bytea,
        pg_sys::BITOID | pg_sys::VARBITOID => Codec::Bits,
        pg_sys::INETOID => Codec::Inet,
        pg_sys::CIDROID => Codec::Cidr,
        pg_sys::MACADDROID => Codec::MacAddr,
        pg_sys::MACADDR8OID => Codec::MacAddr8,
        pg_sys::PG_LSNOID => Codec::PgLsn,
        pg_sys::TIDOID => Codec::Tid,
        pg_sys::JSONOID => Codec::Json,
        pg_sys::JSONBOID => Codec::Jsonb,
        pg_sys::XMLOID => Codec::Xml(Box::new(OutputFunction::of(type_oid))),
        _ => return None,
    })
}

fn output(type_oid: u32) -> Codec {
    let function = OutputFunction::of(type_oid);
    if function.is_textout() {
        Codec::Text
    } else {
        Codec::Output(Box::new(function))
    }
}
