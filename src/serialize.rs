//! Serialization of status, readiness and liveness: durations in seconds, times as RFC 3339, kinds
//! by the words of telemetry.

use std::time::{Duration, SystemTime};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::clock::within_years;
use crate::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};

/// Writes a duration or time, or an optional one, for `serde(with)`.
pub(crate) fn serialize<T: SerializeForm, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.form().serialize(serializer)
}

/// A value that is not written in serde's own form.
pub(crate) trait SerializeForm {
    fn form(&self) -> impl Serialize;
}

impl SerializeForm for Duration {
    fn form(&self) -> impl Serialize {
        self.as_secs_f64()
    }
}

impl SerializeForm for SystemTime {
    fn form(&self) -> impl Serialize {
        humantime::format_rfc3339_millis(within_years(*self)).to_string()
    }
}

impl<T: SerializeForm> SerializeForm for Option<T> {
    fn form(&self) -> impl Serialize {
        self.as_ref().map(T::form)
    }
}

/// Writes a kind as the word that telemetry uses.
macro_rules! serialize_as_str {
    ($($kind:ty),*) => {$(
        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}
pub(crate) use serialize_as_str;

serialize_as_str!(ConnectErrorKind, ProviderErrorKind);

impl Serialize for ConnectError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ConnectError", 5)?;
        fields.serialize_field("kind", &self.kind())?;
        fields.serialize_field("code", &self.code())?;
        fields.serialize_field("message", self.message())?;
        fields.serialize_field("target", &self.target())?;
        fields.serialize_field("transient", &self.is_transient())?;
        fields.end()
    }
}

impl Serialize for ProviderError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ProviderError", 3)?;
        fields.serialize_field("kind", &self.kind())?;
        fields.serialize_field("message", self.message())?;
        fields.serialize_field("transient", &self.is_transient())?;
        fields.end()
    }
}
