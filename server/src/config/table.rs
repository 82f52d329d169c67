//! The shape of an option's row, and the macro that makes `Config` out of the rows.
//!
//! One table drives everything: reading files and command lines, CONFIG GET, SET and REWRITE.
//! Invariants:
//! - names and aliases are unique over the built and the unbuilt options together;
//! - a built option's default passes through its own kind unchanged (a test walks all rows).

use super::options::{BUILT, Config};
use super::special::RewriteLine;
use super::split::{quote, split_line};
use super::unbuilt::UNBUILT;
use super::value::{BufferLimit, Kind, Unit, Value, format_memory};

/// Properties of an option, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// CONFIG SET may change it.
    pub const NONE: Flags = Flags(0);
    /// Fixed once the server runs.
    pub const IMMUTABLE: Flags = Flags(1);
    /// Takes any number of arguments.
    pub const MULTI: Flags = Flags(2);
    /// A secret: kept out of logs and of SLOWLOG.
    pub const SENSITIVE: Flags = Flags(4);
    /// CONFIG GET shows it only by its exact name.
    pub const HIDDEN: Flags = Flags(8);
    /// CONFIG SET needs `enable-protected-configs`.
    pub const PROTECTED: Flags = Flags(16);
    /// Fixed once the server runs, and unknown to Redis. CONFIG SET takes the value that it has:
    /// tools that write back what CONFIG GET gave leave out only what is fixed in Redis.
    pub const KEPT: Flags = Flags(32);

    /// Both sets of properties.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where an option's value is held.
pub enum Slot {
    /// A field of `Config`.
    Built {
        /// Reads the field.
        get: fn(&Config) -> Value,
        /// Writes it; false when the value's form is not the field's.
        set: fn(&mut Config, Value) -> bool,
    },
    /// Only remembered, so that CONFIG GET and REWRITE give back what was set. Holds the
    /// default as a configuration line's arguments.
    Unbuilt { default: &'static str },
}

/// One option.
pub struct Row {
    /// The name in files and in CONFIG.
    pub name: &'static str,
    /// An older name that means the same.
    pub alias: Option<&'static str>,
    /// Its properties.
    pub flags: Flags,
    /// The form of its value.
    pub kind: Kind,
    /// Where the value is held.
    pub slot: Slot,
}

impl Row {
    /// The value that `config` holds.
    pub fn value(&self, config: &Config) -> Value {
        match &self.slot {
            Slot::Built { get, .. } => get(config),
            Slot::Unbuilt { .. } => {
                config.unbuilt.get(self.name).cloned().unwrap_or_else(|| self.default_value())
            }
        }
    }

    /// Reads `arguments` and puts the value into `config`.
    pub fn assign(&self, config: &mut Config, arguments: &[Vec<u8>]) -> Result<(), String> {
        let value = self.kind.parse(arguments, &self.value(config))?;
        match &self.slot {
            Slot::Built { set, .. } => {
                if !set(config, value) {
                    return Err("the value does not fit the option".into());
                }
            }
            Slot::Unbuilt { .. } => {
                config.unbuilt.insert(self.name, value);
            }
        }
        Ok(())
    }

    /// Whether the server remembers the option without acting on it.
    pub fn is_unbuilt(&self) -> bool {
        matches!(self.slot, Slot::Unbuilt { .. })
    }

    /// Whether `name`, in any case, is this option's name or alias.
    pub fn is_named(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
            || self.alias.is_some_and(|alias| name.eq_ignore_ascii_case(alias.as_bytes()))
    }

    /// The lines of a rewritten file, without the name.
    pub(super) fn rewrite(&self, config: &Config, defaults: &Config) -> Vec<RewriteLine> {
        let (value, default) = (self.value(config), self.value(defaults));
        let arguments = match (&self.kind, &value) {
            (Kind::Special(special), _) => return (special.rewrite)(&value, &default),
            (Kind::Text { unset_when_empty: true, .. }, Value::Text(text)) if text.is_empty() => {
                return Vec::new();
            }
            (Kind::Text { .. }, Value::Text(text)) => {
                let mut quoted = Vec::new();
                quote(&mut quoted, text);
                quoted
            }
            (Kind::Number { unit: Unit::Memory | Unit::MemoryOrPercent, .. }, Value::Number(n))
                if *n >= 0 =>
            {
                format_memory(*n).into_bytes()
            }
            (kind, value) => kind.show(value),
        };
        vec![RewriteLine { arguments, forced: value != default }]
    }

    /// The default of an unbuilt option. A test checks that every default can be read, so the
    /// empty text is never the answer for a form that has none.
    fn default_value(&self) -> Value {
        let text = match &self.slot {
            Slot::Built { get, .. } => return get(&Config::default()),
            Slot::Unbuilt { default } => default,
        };
        self.parse_default(text).unwrap_or_else(|| Value::Text(Vec::new()))
    }

    /// Reads a default of the table.
    pub(super) fn parse_default(&self, text: &str) -> Option<Value> {
        let arguments = split_line(text.as_bytes()).ok()?;
        self.kind.parse(&arguments, &Value::Text(Vec::new())).ok()
    }
}

/// All options, built ones first.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    BUILT.iter().chain(UNBUILT)
}

/// The option of that name or alias, in any case.
pub fn find(name: &[u8]) -> Option<&'static Row> {
    rows().find(|row| row.is_named(name))
}

/// A field's type: how it becomes the value of its kind and back.
pub(super) trait Setting: Sized {
    /// The field as a value.
    fn to_value(&self) -> Value;
    /// The value as a field; none when the form differs.
    fn from_value(value: Value) -> Option<Self>;
}

impl Setting for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        }
    }
}

macro_rules! number_settings {
    ($($number:ty),*) => {
        $(impl Setting for $number {
            fn to_value(&self) -> Value {
                Value::Number(*self as i128)
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Number(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        })*
    };
}

number_settings!(u16, u32, u64, i64, usize);

macro_rules! plain_settings {
    ($($field:ty => $variant:ident),* $(,)?) => {
        $(impl Setting for $field {
            fn to_value(&self) -> Value {
                Value::$variant(self.clone())
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(field) => Some(field),
                    _ => None,
                }
            }
        })*
    };
}

plain_settings! {
    Vec<u8> => Text,
    Vec<Vec<u8>> => Words,
    Vec<f64> => Floats,
    Vec<(u64, u64)> => Pairs,
    [BufferLimit; 3] => Limits,
}

/// Declares `Config` and the rows of the options that it holds.
///
/// A row reads: documentation, `field: type = default`, then the option's name with an alias
/// after a bar, its flags, its kind.
macro_rules! options {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr;
       $name:literal $(| $alias:literal)?, $flags:expr, $kind:expr;)*) => {
        /// The configuration: one typed field for each option that is built.
        ///
        /// A value is immutable once published; see `ConfigStore`.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($(#[$doc])* pub $field: $type,)*
            /// What was set of the options that are only remembered.
            pub(super) unbuilt: std::collections::BTreeMap<&'static str, Value>,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)* unbuilt: Default::default() }
            }
        }

        /// The options that the server acts on.
        pub(super) static BUILT: &[Row] = &[
            $(Row {
                name: $name,
                alias: options!(@alias $($alias)?),
                flags: $flags,
                kind: $kind,
                slot: Slot::Built {
                    get: |config| config.$field.to_value(),
                    set: |config, value| match Setting::from_value(value) {
                        Some(field) => {
                            config.$field = field;
                            true
                        }
                        None => false,
                    },
                },
            },)*
        ];
    };
    (@alias $alias:literal) => { Some($alias) };
    (@alias) => { None };
}

pub(super) use options;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_aliases_are_unique_and_lower_case() {
        let mut seen = HashSet::new();
        for name in rows().flat_map(|row| std::iter::once(row.name).chain(row.alias)) {
            assert!(seen.insert(name), "{name} stands twice");
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }

    #[test]
    fn every_default_passes_through_its_own_kind() {
        let defaults = Config::default();
        for row in rows() {
            if let Slot::Unbuilt { default } = row.slot {
                assert!(row.parse_default(default).is_some(), "{} = {default}", row.name);
                continue;
            }
            let shown = row.kind.show(&row.value(&defaults));
            let arguments = if row.flags.has(Flags::MULTI) && !shown.is_empty() {
                split_line(&shown).unwrap()
            } else {
                vec![shown]
            };
            let mut config = defaults.clone();
            row.assign(&mut config, &arguments)
                .unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_eq!(config, defaults, "{}", row.name);
        }
    }

    #[test]
    fn unbuilt_options_remember_what_was_set() {
        let mut config = Config::default();
        let row = find(b"Repl-Diskless-Load").unwrap();
        assert!(row.is_unbuilt());
        assert_eq!(row.value(&config), Value::Choice("disabled"));
        row.assign(&mut config, &[b"swapdb".to_vec()]).unwrap();
        assert_eq!(row.value(&config), Value::Choice("swapdb"));
        assert!(row.assign(&mut config, &[b"never".to_vec()]).is_err());
    }

    #[test]
    fn aliases_reach_the_same_row() {
        assert_eq!(find(b"hash-max-ziplist-entries").unwrap().name, "hash-max-listpack-entries");
        assert!(find(b"no-such-option").is_none());
    }
}
