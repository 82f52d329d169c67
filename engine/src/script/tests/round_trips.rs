//! What the libraries write they read back; what others write makes them fail, never panic.
#![forbid(unsafe_code)]

use proptest::{collection::vec, prelude::*};

use super::Bench;

/// A value as Lua code: numbers, booleans, strings, lists without holes, tables with names.
fn literal() -> impl Strategy<Value = String> {
    let string = vec(any::<u8>(), 0..12).prop_map(|bytes| {
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
        format!("'{escaped}'")
    });
    let leaf = prop_oneof![
        any::<i32>().prop_map(|number| number.to_string()),
        any::<i16>().prop_map(|number| format!("({number} / 8)")),
        any::<bool>().prop_map(|value| value.to_string()),
        string.clone(),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let named = (string.clone(), inner.clone());
        prop_oneof![
            vec(inner, 1..6).prop_map(|items| format!("{{{}}}", items.join(", "))),
            vec(named, 1..6).prop_map(|pairs| {
                let fields = pairs.iter().map(|(name, value)| format!("['k' .. {name}] = {value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }),
        ]
    })
}

const SAME: &str = "local function same(a, b) \
    if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end \
    for k, v in pairs(a) do if not same(v, b[k]) then return false end end \
    for k in pairs(b) do if a[k] == nil then return false end end return true end ";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_come_back_from_json_and_messagepack(value in literal()) {
        let mut bench = Bench::new();
        // The null of JSON cannot stand in for bytes that are no text, but all bytes pass.
        let script = format!(
            "{SAME} local v = {value} return {{\
             same(v, cjson.decode(cjson.encode(v))), same(v, cmsgpack.unpack(cmsgpack.pack(v)))}}"
        );
        prop_assert_eq!(bench.eval(&script), "*2\r\n:1\r\n:1\r\n");
    }

    #[test]
    fn foreign_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..60), format in "[bBhHlLiIsfdcx0-9<>! ]{0,8}") {
        let mut bench = Bench::new();
        for call in [
            "cmsgpack.unpack, ARGV[1]",
            "cmsgpack.unpack_limit, ARGV[1], 3, 1",
            "cjson.decode, ARGV[1]",
            "cjson.decode, '[' .. ARGV[1]",
            "cjson.decode, '\"' .. ARGV[1]",
            "struct.unpack, ARGV[2], ARGV[1]",
            "struct.pack, ARGV[2], ARGV[1], 1, 2, ARGV[1], 3.5",
            "struct.size, ARGV[2]",
            "loadstring, ARGV[1]",
            "string.find, 'aaaa', ARGV[1]",
        ] {
            let script = format!("return select('#', pcall({call})) > 0");
            bench.progress(&script, &[], &[&bytes, format.as_bytes()]);
            prop_assert_eq!(bench.reply(), ":1\r\n");
        }
    }
}
