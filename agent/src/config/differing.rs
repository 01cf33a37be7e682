//! What an agent's settings say beyond the defaults: what somebody asks first who looks into a job.

use serde_json::{Map, Value};

use super::Settings;

impl Settings {
    /// Every setting that is not its default, as JSON.
    pub fn differing(&self) -> Value {
        let json = |settings: &Self| serde_json::to_value(settings).unwrap_or_default();
        differing(json(self), &json(&Self::default())).unwrap_or_else(|| Value::Object(Map::new()))
    }
}

/// `None`: it does not differ.
fn differing(own: Value, default: &Value) -> Option<Value> {
    match (own, default) {
        (Value::Object(own), Value::Object(default)) => {
            let usual = |key: &str| default.get(key).unwrap_or(&Value::Null);
            let rest: Map<String, Value> = own
                .into_iter()
                .filter_map(|(key, value)| {
                    let value = differing(value, usual(&key))?;
                    Some((key, value))
                })
                .collect();
            (!rest.is_empty()).then_some(Value::Object(rest))
        }
        (own, default) => (own != *default).then_some(own),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_set_is_told() {
        assert_eq!(Settings::default().differing(), json!({}));
        let mut settings = Settings::default();
        settings.timing.time_scale = 60.0;
        settings.iso_dir = "/srv/iso".into();
        assert_eq!(settings.differing(), json!({"iso_dir": "/srv/iso", "timing": {"time_scale": 60.0}}));
    }
}
