//! Values that are one text: read with `FromStr`, written with `Display`.

/// Implements `Deserialize` for a type with `FromStr`, and `JsonSchema` with these keywords. A text that is none of its
/// values is an error with the message of `FromStr`.
#[macro_export]
macro_rules! read_from_text {
    ($name:ident, $schema:tt) => {
        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text: ::std::borrow::Cow<'_, str> = ::serde::Deserialize::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }

        impl ::schemars::JsonSchema for $name {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!($schema)
            }
        }
    };
}

/// The same, with `Serialize` for a type with `Display`.
#[macro_export]
macro_rules! text_value {
    ($name:ident, $schema:tt) => {
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        $crate::read_from_text!($name, $schema);
    };
}
