#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn patterns(text: &str) -> TablePatterns {
    TablePatterns::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn a_list_has_an_end() {
    let list = |count: usize| vec!["a"; count].join(",");
    assert_eq!(
        TablePatterns::parse(&list(10_000)).unwrap().iter().count(),
        10_000
    );
    let refused = TablePatterns::parse(&list(10_001)).unwrap_err();
    assert_eq!(refused.kind(), TablePatternErrorKind::TooMany(10_000));
    assert_eq!(
        refused.to_string(),
        "a list of more than 10000 table patterns"
    );
}

#[test]
fn a_pattern_matches_the_names_that_sql_would_mean() {
    for (text, schema, table, expected) in [
        ("orders", "public", "orders", true),
        ("orders", "shop", "orders", false),
        ("Shop.ORDERS", "shop", "orders", true),
        ("\"Shop\".orders", "shop", "orders", false),
        ("\"Shop\".orders", "Shop", "orders", true),
        (" shop . orders ", "shop", "orders", true),
        ("shop.*", "shop", "anything", true),
        ("shop.*", "shopping", "anything", false),
        ("*.*", "any", "thing", true),
        ("*", "public", "thing", true),
        ("*", "any", "thing", false),
        ("shop.orders_*", "shop", "orders_2024", true),
        ("shop.orders_*", "shop", "orders_", true),
        ("shop.orders_*", "shop", "orders", false),
        ("shop.*_log", "shop", "audit_log", true),
        ("shop.a*b*c", "shop", "a_b_b_c", true),
        ("shop.a*b*c", "shop", "a_c_b", false),
        ("shop.ab*ba", "shop", "aba", false),
        ("shop.ab*ba", "shop", "abba", true),
        ("shop.\"a*b\"", "shop", "a*b", true),
        ("shop.\"a*b\"", "shop", "axb", false),
        ("shop.\"Part_\"*", "shop", "Part_7", true),
        ("\"a.b\".\"c,d\"", "a.b", "c,d", true),
        ("shop.\"say \"\"hi\"\"\"", "shop", "say \"hi\"", true),
        ("shop.straße", "shop", "straße", true),
        ("shop.Ä", "shop", "ä", false),
        ("a.x,b.y", "b", "y", true),
        ("a.x , b.y", "a", "y", false),
    ] {
        assert_eq!(
            patterns(text).matches(schema, table),
            expected,
            "{text:?} on {schema:?}.{table:?}"
        );
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_the_text_in_error() {
    use TablePatternErrorKind::*;
    for (text, kind, quoted) in [
        ("", EmptyName, ""),
        ("  ", EmptyName, ""),
        ("a,", EmptyName, ""),
        ("a,,b", EmptyName, ",b"),
        ("a, .b", EmptyName, ".b"),
        ("a.", EmptyName, "a."),
        ("\"\"", EmptyName, "\"\""),
        ("a.\"\"*", EmptyName, "a.\"\"*"),
        ("a.\"b", UnclosedQuote, "a.\"b"),
        ("a.\"b\"\"", UnclosedQuote, "a.\"b\"\""),
        ("a.b.c", TooManyNames, "a.b.c"),
        ("x, my-table", Unexpected('-'), "my-table"),
        ("a b", Unexpected('b'), "a b"),
        ("\"a\" \"b\"", Unexpected('"'), "\"a\" \"b\""),
        ("a;drop", Unexpected(';'), "a;drop"),
        ("public.user%", Unexpected('%'), "public.user%"),
    ] {
        let error = TablePatterns::parse(text).expect_err(text);
        assert_eq!((error.kind(), error.text()), (kind, quoted), "{text:?}");
        assert!(error.to_string().contains(quoted), "{error}");
        assert!(error.hint().ends_with('.'), "{}", error.hint());
    }
}

#[test]
fn system_schemas_are_never_selected() {
    let none = TablePatterns::default();
    for schema in ["pg_catalog", "pg_toast", "pg_temp_3", "information_schema"] {
        assert!(!selects(None, &none, schema, "t"), "{schema}");
        let named = TablePatterns::from_iter([TablePattern::exact(schema, "t")]);
        assert!(!selects(Some(&named), &none, schema, "t"), "{schema}");
    }
    assert!(selects(None, &none, "page", "t"));
}

#[test]
fn the_schema_of_the_extension_is_selected_only_where_it_is_spelled_out() {
    let none = TablePatterns::default();
    for (include, expected) in [
        (None, false),
        (Some("*.*"), false),
        (Some("head*.*"), false),
        (Some("headwater.*"), true),
        (Some("*.*,headwater.t"), true),
    ] {
        let include = include.map(patterns);
        assert_eq!(
            selects(include.as_ref(), &none, "headwater", "t"),
            expected,
            "{include:?}"
        );
    }
}

#[test]
fn what_is_excluded_is_not_selected_whatever_includes_it() {
    let (include, exclude) = (patterns("shop.*"), patterns("*.*_log"));
    assert!(selects(Some(&include), &exclude, "shop", "orders"));
    assert!(!selects(Some(&include), &exclude, "shop", "audit_log"));
    assert!(!selects(None, &exclude, "shop", "audit_log"));
}

#[test]
fn a_pattern_made_to_backtrack_does_not() {
    let pattern = patterns(&format!("public.{}b", "a*".repeat(2_000)));
    assert!(!pattern.matches("public", &"a".repeat(100_000)));
}

#[test]
fn a_pattern_prints_with_quotes_only_where_it_needs_them() {
    for (text, printed) in [
        ("Orders", "public.orders"),
        ("\"orders\"", "public.orders"),
        ("\"Orders\".a**b", "\"Orders\".a*b"),
        ("s.\"a*\"*", "s.\"a*\"*"),
        ("s.\"a\"\"b\",s.c", "s.\"a\"\"b\",s.c"),
    ] {
        assert_eq!(patterns(text).to_string(), printed, "{text:?}");
    }
}

/// The definition, without a thought about time.
fn matches_naively(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skip| matches_naively(rest, &name[skip..])),
        Some((c, rest)) => name.first() == Some(c) && matches_naively(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn matching_follows_the_definition(pattern in "[ab*]{1,8}", name in "[ab]{0,10}") {
        let as_chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(
            patterns(&format!("public.{pattern}")).matches("public", &name),
            matches_naively(&as_chars(&pattern), &as_chars(&name))
        );
    }

    #[test]
    fn a_printed_list_parses_to_itself(
        text in r#"( ?[aZé*"_]{1,4}|"[a.*,]{1,3}"|\*)(\.( ?[bÄ9*$]{1,4}|"x("")?"\*?))?(,"A b".c)?"#
    ) {
        if let Ok(list) = TablePatterns::parse(&text) {
            prop_assert_eq!(TablePatterns::parse(&list.to_string()), Ok(list));
        }
    }

    #[test]
    fn every_table_has_a_pattern_of_its_own(schema in "\\PC{1,12}", table in "\\PC{1,12}") {
        let printed = TablePattern::exact(&schema, &table).to_string();
        prop_assert!(patterns(&printed).matches(&schema, &table), "{}", printed);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a.\"*, \\PC]{0,20}") {
        let _ = TablePatterns::parse(&text);
    }
}
