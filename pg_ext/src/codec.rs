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
//! Avro is written from the same tree. It has forms for more than JSON has: a `numeric` of fixed
//! scale is a decimal, and ranges are records. Where it has none either, it takes the text
//! that JSON has. So what a schema says is read off the codec that writes the bytes
//! ([`crate::schema`]), and cannot differ from them.
//!
//! # Sharing and depth
//!
//! Each row type is compiled once a plan, however often it occurs: twenty types that each
//! hold the one before twice would otherwise be a million attributes. Depth is bounded here, so
//! encoding needs no bound of its own: a row type that was compiled further up brings its own
//! levels along, and is shared only where they fit.
//!
//! A row type cannot hold itself, not even through an array (`CheckAttributeType` in `heap.c`), but
//! not every release looks through a multirange for it. One that does is compiled within itself
//! until the depth ends, each level a codec of its own, and of those that fit where it occurs
//! again the deepest is shared. So a shared one is never entered twice at a time in any case:
//! what a codec holds was complete before it.
//!
//! # No value, no name
//!
//! A type may have no bytes: where it is nested too deeply, and where no name can be said. In Avro
//! an array or a range of such a type has none either, not even empty. Its record would have the
//! name of another, of the same type a few levels further up, and other fields.

use std::cell::RefCell;
use std::rc::Rc;

use headwater_protocol::avro::Decimal;
use headwater_protocol::options::{Enums, Format, PluginOptions};
use headwater_protocol::type_map::{self, Kind};
use headwater_protocol::{avro, json};

use crate::pg::{
    ColumnDescription, CompositeType, DatabaseEncoding, ElementLayout, EnumLabels, FIRST_USER_OID,
    OutputFunction, TypeKind, base_type_and_modifier, has_exact_labels, has_exact_name, is_hstore,
    type_hash, type_kind,
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
    /// A `numeric` whose scale is fixed, under Avro.
    Decimal(Decimal),
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
    /// Under Avro, as multiranges are.
    Range(Box<RangeCodec>),
    Multirange(Box<RangeCodec>),
    /// Any other type: the text of its output function.
    Output(Box<OutputFunction>),
    /// A row type with an attribute whose name has no UTF-8; under Avro also a type whose own name
    /// has none, or an enum with such a label: two of them might be called the same in a schema.
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

/// The bounds of a range, or of each range of a multirange.
pub(crate) struct RangeCodec {
    /// The range's type, also where this is a multirange of it.
    pub(crate) range_type: u32,
    /// What a value has to name: the range's type, or that of the multirange.
    pub(crate) type_oid: u32,
    /// The type of the bounds, a domain where the range is declared so.
    pub(crate) subtype: u32,
    pub(crate) layout: ElementLayout,
    pub(crate) bound: Codec,
}

/// A row type's attributes.
pub(crate) struct CompositeCodec {
    pub(crate) composite: CompositeType,
    pub(crate) attributes: Vec<AttributeCodec>,
}

/// An attribute of a row type.
pub(crate) struct AttributeCodec {
    pub(crate) description: ColumnDescription,
    pub(crate) codec: Codec,
    /// `,"name":` as it stands in every value.
    pub(crate) prefix: Vec<u8>,
}

/// Compiles the codecs of one plan.
pub(crate) struct CodecCompiler {
    encoding: DatabaseEncoding,
    format: Format,
    enums: Enums,
    composites: Vec<KnownComposite>,
    depends_on: Vec<u32>,
    types: Vec<u32>,
    /// Whether columns of the key are under way.
    in_key: bool,
    /// Enums that the key holds.
    key_enums: Vec<u32>,
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
    pub(crate) fn new(encoding: DatabaseEncoding, options: &PluginOptions) -> Self {
        CodecCompiler {
            encoding,
            format: options.format,
            enums: options.enums,
            composites: Vec::new(),
            depends_on: Vec::new(),
            types: Vec::new(),
            in_key: false,
            key_enums: Vec::new(),
            depth: 0,
            deepest: 0,
        }
    }

    /// What the codecs depend on: the relations (`pg_class.oid`) of the row types that were
    /// compiled, each of which changes with its type, and the types whose names a schema has,
    /// as [`type_hash`] names them.
    pub(crate) fn into_dependencies(self) -> (Vec<u32>, Vec<u32>) {
        (self.depends_on, self.types)
    }

    /// The codec of a column of the key. Those come first.
    ///
    /// A key's schema must hold nothing that changes while keys do not. The labels of an enum
    /// do: one that the key holds is a string in all of the table's columns, as a type has one
    /// form in a schema.
    pub(crate) fn key_codec(&mut self, declared: u32, type_modifier: i32) -> Codec {
        self.in_key = true;
        let codec = self.codec(declared, type_modifier);
        self.in_key = false;
        codec
    }

    pub(crate) fn codec(&mut self, declared: u32, type_modifier: i32) -> Codec {
        let (type_oid, type_modifier) = base_type_and_modifier(declared, type_modifier);
        if self.format == Format::Avro {
            self.depend_on_type(declared);
            self.depend_on_type(type_oid);
        }
        if let Some(codec) = self.built_in(type_oid, type_modifier) {
            return codec;
        }
        if self.depth == MAX_DEPTH {
            return Codec::TooDeep;
        }
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let codec = match type_kind(type_oid) {
            kind if !self.is_nameable(type_oid, kind) => Codec::Unnameable,
            TypeKind::Array { element } => self.array(element, type_modifier),
            TypeKind::Composite => self.composite(type_oid),
            TypeKind::Enum => Codec::Enum(Box::new(self.labels(type_oid))),
            TypeKind::Range { subtype } if self.format == Format::Avro => {
                self.range(type_oid, type_oid, subtype, Codec::Range)
            }
            TypeKind::Multirange { range } if self.format == Format::Avro => {
                self.multirange(type_oid, range)
            }
            TypeKind::Range { .. } | TypeKind::Multirange { .. } => output(type_oid),
            TypeKind::Other if is_hstore(type_oid) => Codec::Hstore,
            TypeKind::Other => output(type_oid),
        };
        self.depth -= 1;
        codec
    }

    /// Whether a schema can name what values of a type are made of.
    fn is_nameable(&self, type_oid: u32, kind: TypeKind) -> bool {
        if self.format != Format::Avro {
            return true;
        }
        match kind {
            TypeKind::Enum if !self.numbers_labels(type_oid) => true,
            TypeKind::Enum => {
                has_exact_name(type_oid, self.encoding) && has_exact_labels(type_oid, self.encoding)
            }
            TypeKind::Array { .. } | TypeKind::Composite | TypeKind::Range { .. } => {
                has_exact_name(type_oid, self.encoding)
            }
            // Its values are ranges, and have the name of those.
            TypeKind::Multirange { range } => has_exact_name(range, self.encoding),
            TypeKind::Other => true,
        }
    }

    /// An array's modifier is that of its elements.
    fn array(&mut self, element_type: u32, type_modifier: i32) -> Codec {
        match self.codec(element_type, type_modifier) {
            nothing if self.is_nothing(&nothing) => nothing,
            element => Codec::Array(Box::new(ArrayCodec {
                element_type,
                layout: ElementLayout::of(element_type),
                element,
            })),
        }
    }

    /// The values of a range type, or of the multirange type that is made of it. Their subtype
    /// has no modifier.
    fn range(
        &mut self,
        type_oid: u32,
        range_type: u32,
        subtype: u32,
        of: fn(Box<RangeCodec>) -> Codec,
    ) -> Codec {
        match self.codec(subtype, -1) {
            nothing if self.is_nothing(&nothing) => nothing,
            bound => of(Box::new(RangeCodec {
                range_type,
                type_oid,
                subtype,
                layout: ElementLayout::of(subtype),
                bound,
            })),
        }
    }

    fn multirange(&mut self, type_oid: u32, range: u32) -> Codec {
        match type_kind(range) {
            TypeKind::Range { subtype } => {
                self.depend_on_type(range);
                self.range(type_oid, range, subtype, Codec::Multirange)
            }
            _ => output(type_oid),
        }
    }

    /// Whether what holds values of a codec has none itself: see the module. JSON names nothing,
    /// and writes the brackets of an empty array.
    fn is_nothing(&self, codec: &Codec) -> bool {
        self.format == Format::Avro && matches!(codec, Codec::Unnameable | Codec::TooDeep)
    }

    /// Whether the values of an enum are the places of their labels: an enum of Avro.
    fn numbers_labels(&self, type_oid: u32) -> bool {
        self.format == Format::Avro
            && self.enums == Enums::Avro
            && !self.in_key
            && !self.key_enums.contains(&type_oid)
    }

    fn labels(&mut self, type_oid: u32) -> EnumLabels {
        if self.in_key {
            self.key_enums.push(type_oid);
        }
        match self.format {
            Format::Avro if self.numbers_labels(type_oid) => {
                EnumLabels::numbered(type_oid, self.encoding)
            }
            Format::Avro => EnumLabels::written_by(avro::string),
            _ => EnumLabels::written_by(json::string),
        }
    }

    /// The server's own types never change.
    fn depend_on_type(&mut self, type_oid: u32) {
        if type_oid >= FIRST_USER_OID {
            self.types.push(type_hash(type_oid));
        }
    }

    fn composite(&mut self, type_oid: u32) -> Codec {
        let room = MAX_DEPTH - self.depth;
        let mut known = self
            .composites
            .iter()
            .filter(|known| known.type_oid == type_oid)
            .peekable();
        if known.peek().is_some() {
            let fitting = known.filter(|known| known.levels <= room);
            let Some(known) = fitting.max_by_key(|known| known.levels) else {
                return Codec::TooDeep;
            };
            self.deepest = self.deepest.max(self.depth + known.levels);
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
                codec: self.codec(attribute.type_oid, attribute.type_modifier),
                prefix: member_prefix(&attribute.name),
                description: attribute,
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

    /// The types that the server comes with. A `numeric` of a fixed scale is a decimal in Avro.
    fn built_in(&self, type_oid: u32, type_modifier: i32) -> Option<Codec> {
        Some(match type_map::built_in(type_oid)? {
            Kind::Bool => Codec::Bool,
            Kind::Int2 => Codec::Int2,
            Kind::Int4 => Codec::Int4,
            Kind::Int8 => Codec::Int8,
            Kind::Oid => Codec::Oid,
            Kind::Xid8 => Codec::Xid8,
            Kind::Float4 => Codec::Float4,
            Kind::Float8 => Codec::Float8,
            Kind::Numeric => match Decimal::of_modifier(type_modifier) {
                Some(decimal) if self.format == Format::Avro => Codec::Decimal(decimal),
                _ => Codec::Numeric,
            },
            Kind::Money => Codec::Money,
            Kind::Text => Codec::Text,
            Kind::Name => Codec::Name,
            Kind::Char => Codec::Char,
            Kind::Xml => Codec::Xml(Box::new(OutputFunction::of(type_oid))),
            Kind::Bytea => Codec::Bytea,
            Kind::Uuid => Codec::Uuid,
            Kind::Date => Codec::Date,
            Kind::Time => Codec::Time,
            Kind::TimeTz => Codec::TimeTz,
            Kind::Timestamp => Codec::Timestamp,
            Kind::TimestampTz => Codec::TimestampTz,
            Kind::Interval => Codec::Interval,
            Kind::Json => Codec::Json,
            Kind::Jsonb => Codec::Jsonb,
            Kind::Bits => Codec::Bits,
            Kind::Inet => Codec::Inet,
            Kind::Cidr => Codec::Cidr,
            Kind::MacAddr => Codec::MacAddr,
            Kind::MacAddr8 => Codec::MacAddr8,
            Kind::PgLsn => Codec::PgLsn,
            Kind::Tid => Codec::Tid,
            Kind::Output => output(type_oid),
        })
    }
}

/// `,"name":`
pub(crate) fn member_prefix(name: &str) -> Vec<u8> {
    let mut prefix = vec![b','];
    json::string(&mut prefix, name.as_bytes());
    prefix.push(b':');
    prefix
}

fn output(type_oid: u32) -> Codec {
    let function = OutputFunction::of(type_oid);
    if function.is_textout() {
        Codec::Text
    } else {
        Codec::Output(Box::new(function))
    }
}
