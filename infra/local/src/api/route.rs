//! Which route a request takes.

use crate::wiring::{ROUTES, Route};

/// A route, and what its path's variable stands for in this request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matched {
    pub(super) route: &'static Route,
    pub(super) parameters: Option<(&'static str, String)>,
}

/// The route of a method and a decoded path.
pub(super) fn find(method: &str, path: &str) -> Option<Matched> {
    ROUTES
        .iter()
        .filter(|route| route.method == method)
        .find_map(|route| {
            let parameters = match route.path.split_once('{') {
                None => (route.path == path).then_some(None)?,
                Some((before, variable)) => {
                    let name = variable.trim_end_matches("+}");
                    let value = path
                        .strip_prefix(before)
                        .filter(|value| !value.is_empty())?;
                    Some((name, value.to_owned()))
                }
            };
            Some(Matched { route, parameters })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_takes_all_that_remains() {
        let key = |method, path| {
            find(method, path).map(|matched| (matched.route.path, matched.parameters))
        };
        assert_eq!(key("POST", "/segment"), Some(("/segment", None)));
        assert_eq!(key("GET", "/health/score"), Some(("/health/score", None)));
        let study = Some(("study", "a/b c".to_owned()));
        assert_eq!(
            key("DELETE", "/studies/a/b c"),
            Some(("/studies/{study+}", study))
        );
        for (method, path) in [
            ("GET", "/segment"),
            ("GET", "/studies/"),
            ("GET", "/"),
            ("POST", "/segment/"),
        ] {
            assert_eq!(key(method, path), None, "{method} {path}");
        }
    }
}
