//! Serialization of status, readiness and liveness: durations in seconds, times as RFC 3339, kinds
//! by the words of telemetry.

use std::time::{Duration, SystemTime};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::clock::within_years;
use crate::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};

pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

pub(crate) fn seconds_if_any<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration
        .map(|duration| duration.as_secs_f64())
        .serialize(serializer)
}

pub(crate) fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(within_years(*time)))
}

pub(crate) fn time_if_any<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(at) => serializer
            .serialize_some(&humantime::format_rfc3339_millis(within_years(*at)).to_string()),
        None => serializer.serialize_none(),
    }
}

macro_rules! serialize_as_str {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}
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
