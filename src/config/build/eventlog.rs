use super::contradiction;
use crate::config::Context;
use crate::config::check::Checked;
use crate::config::tree;
use crate::config::{
    Address, ConfigError, EventLog, Fault, LogFile, LogHandler, LogLevel, LogStyle, LogTarget,
    OtherHandler, Rotation, RotationTime, Syslog, log_format,
};

pub fn eventlog(section: &Checked, context: &Context<'_>) -> Result<EventLog, ConfigError> {
    let mut handlers = Vec::new();
    for child in &section.children {
        handlers.push(handler(child, context)?);
    }
    Ok(EventLog {
        level: section.log_level("level").unwrap_or(LogLevel::Info),
        handlers,
    })
}

fn handler(section: &Checked, context: &Context<'_>) -> Result<LogHandler, ConfigError> {
    let style = style(section);
    if let Some(format) = section.text("format") {
        let any_field = section.boolean("arbitrary-fields").unwrap_or(false);
        log_format::check(format, style, any_field)
            .map_err(|reason| bad_format(section, format, reason, style))?;
    }
    if section.text("formatter").is_some() {
        context.warn(
            section.location_of("formatter"),
            "\"formatter\" names a Python class, which cannot be used here".to_owned(),
        );
    }
    match section.kind.name {
        "logfile" => logfile(section, style).map(LogHandler::File),
        "syslog" => Ok(LogHandler::Syslog(syslog(section, style))),
        _ => other(section, context),
    }
}

fn bad_format(section: &Checked, format: &str, reason: String, style: LogStyle) -> ConfigError {
    let fault = Fault::BadValue {
        key: "format",
        value: tree::excerpt(format),
        section: section.title(),
        reason,
        allowed: log_format::allowed(style),
    };
    ConfigError::new(section.location_of("format"), fault)
}

fn style(section: &Checked) -> LogStyle {
    match section.text("style") {
        Some("format") => LogStyle::Format,
        Some("template") => LogStyle::Template,
        Some("safe-template") => LogStyle::SafeTemplate,
        _ => LogStyle::Classic,
    }
}

fn level(section: &Checked) -> LogLevel {
    section.log_level("level").unwrap_or_default()
}

fn logfile(section: &Checked, style: LogStyle) -> Result<LogFile, ConfigError> {
    let path = section
        .path("path")
        .ok_or_else(|| contradiction(section, "there is no path"))?;
    let path = match path.to_str() {
        Some("STDOUT") => LogTarget::Stdout,
        Some("STDERR") => LogTarget::Stderr,
        _ => LogTarget::File(path),
    };
    let delay = section.boolean("delay").unwrap_or(false);
    let encoding = section.text("encoding").map(str::to_owned);
    let rotation = match path {
        LogTarget::File(_) => rotation(section)?,
        // An "interval" alone asks for nothing.
        LogTarget::Stdout | LogTarget::Stderr => {
            let is_set = |key| section.count(key).is_some_and(|count| count > 0);
            let is_rotated = is_set("old-files") || is_set("max-size");
            if is_rotated || section.text("when").is_some() || delay || encoding.is_some() {
                return Err(contradiction(
                    section,
                    "STDOUT and STDERR cannot be rotated, nor have \"encoding\" or \"delay\"; \
                     take these keys out, or name a file",
                ));
            }
            None
        }
    };
    Ok(LogFile {
        path,
        level: level(section),
        format: section.text("format").map(str::to_owned),
        date_format: section.text("dateformat").map(str::to_owned),
        style,
        rotation,
        encoding,
        delay,
    })
}

fn rotation(section: &Checked) -> Result<Option<Rotation>, ConfigError> {
    let old_files = section.count("old-files").unwrap_or(0);
    let max_size_bytes = section.count("max-size").unwrap_or(0);
    let interval = section.count("interval").unwrap_or(0);
    let when = section.text("when").map(rotation_time);
    if when.is_none() && old_files == 0 && max_size_bytes == 0 && interval == 0 {
        return Ok(None);
    }
    if old_files == 0 {
        return Err(contradiction(
            section,
            "a log file is rotated only if \"old-files\" is 1 or more; set it",
        ));
    }
    match when {
        Some(_) if max_size_bytes > 0 => Err(contradiction(
            section,
            "\"max-size\" and \"when\" exclude each other; take one of the two out",
        )),
        Some(when) => Ok(Some(Rotation::Time {
            when,
            interval: interval.max(1),
            old_files,
        })),
        None if max_size_bytes > 0 => Ok(Some(Rotation::Size {
            max_size_bytes,
            old_files,
        })),
        None => Err(contradiction(
            section,
            "to rotate a log file, \"max-size\" or \"when\" must be set",
        )),
    }
}

/// One of the words that the table allows.
fn rotation_time(word: &str) -> RotationTime {
    match word {
        "s" => RotationTime::Seconds,
        "m" => RotationTime::Minutes,
        "h" => RotationTime::Hours,
        "d" => RotationTime::Days,
        _ => word
            .strip_prefix('w')
            .and_then(|day| day.parse().ok())
            .map_or(RotationTime::Midnight, RotationTime::Weekday),
    }
}

fn syslog(section: &Checked, style: LogStyle) -> Syslog {
    Syslog {
        address: section.address("address").unwrap_or_else(|| Address::Tcp {
            host: Some("localhost".to_owned()),
            port: 514,
        }),
        facility: section.text("facility").unwrap_or("user").to_owned(),
        level: level(section),
        format: section.text("format").map(str::to_owned),
        date_format: section.text("dateformat").map(str::to_owned),
        style,
    }
}

/// A handler that is only kept by name; its keys are checked all the same.
fn other(section: &Checked, context: &Context<'_>) -> Result<LogHandler, ConfigError> {
    if let Some(url) = section.text("url") {
        let location = url
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
            .and_then(|_| url.get(7..)?.split_once('/'));
        if location.is_none_or(|(host, _)| host.is_empty()) {
            return Err(contradiction(section, "\"url\" must be http://HOST/PATH"));
        }
    }
    if section.text("smtp-username").is_some() != section.text("smtp-password").is_some() {
        return Err(contradiction(
            section,
            "\"smtp-username\" and \"smtp-password\" go together; set both or neither",
        ));
    }
    let kind = section.kind.name.to_owned();
    context.warn(
        &section.location,
        format!("log records cannot be sent to <{kind}> by this server"),
    );
    Ok(LogHandler::Other(OtherHandler {
        level: level(section),
        kind,
    }))
}
