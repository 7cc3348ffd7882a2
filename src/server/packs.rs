//! Says how far packs are: from time to time in the log, and in place on the
//! terminal from which the server was started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::logging::terminal;
use crate::session::Databases;
use crate::storage::file::pack::PackProgress;

/// How often it is looked how far they are.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a pack that takes long says so in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Tells of packs for ever.
pub async fn tell(databases: Arc<Databases>) {
    let is_seen = terminal::is_there();
    let mut teller = Teller::default();
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        let now = interval.tick().await.into_std();
        let running = databases.iter().filter_map(|(name, database)| {
            let progress = database.storage.pack_progress()?;
            progress.is_running().then_some((name.as_str(), progress))
        });
        let (lines, drawn) = teller.look(now, running);
        for line in lines {
            tracing::info!("{line}");
        }
        if is_seen {
            terminal::draw(&drawn);
        }
    }
}

/// What was told already.
#[derive(Debug, Default)]
struct Teller {
    /// When each pack that runs was first seen, or last in the log.
    told: BTreeMap<String, Instant>,
}

impl Teller {
    /// The lines for the log, and that for the terminal; empty without packs.
    fn look<'a>(
        &mut self,
        now: Instant,
        running: impl Iterator<Item = (&'a str, PackProgress)>,
    ) -> (Vec<String>, String) {
        let before = std::mem::take(&mut self.told);
        let (mut lines, mut drawn) = (Vec::new(), Vec::new());
        for (name, progress) in running {
            let line = format!("storage {name}: pack: {progress}");
            let mut told = before.get(name).copied().unwrap_or(now);
            if now.saturating_duration_since(told) >= LOG_INTERVAL {
                lines.push(line.clone());
                told = now;
            }
            self.told.insert(name.to_owned(), told);
            drawn.push(line);
        }
        (lines, drawn.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::file::pack::PackPhase;

    #[test]
    fn the_log_hears_now_and_then_and_the_terminal_always() {
        let copying = |done| PackProgress {
            phase: PackPhase::Copying,
            done,
            total: 200,
        };
        let begun = Instant::now();
        let mut teller = Teller::default();
        let mut look = |seconds, running: &[(&'static str, u64)]| {
            let now = begun + Duration::from_secs(seconds);
            let running = running.iter().map(|&(name, done)| (name, copying(done)));
            teller.look(now, running)
        };
        let none = Vec::<String>::new();
        let half = "storage 1: pack: copying, 50 %".to_owned();
        assert_eq!(look(0, &[]), (none.clone(), String::new()));
        assert_eq!(look(1, &[("1", 100)]), (none.clone(), half.clone()));
        assert_eq!(look(10, &[("1", 100)]), (none.clone(), half.clone()));
        assert_eq!(look(11, &[("1", 100)]), (vec![half.clone()], half.clone()));
        let both = format!("{half}; storage 2: pack: copying, 0 %");
        assert_eq!(look(12, &[("1", 100), ("2", 1)]), (none.clone(), both));
        // Ended, and another one begun: it has its own time.
        assert_eq!(look(20, &[]), (none.clone(), String::new()));
        assert_eq!(look(22, &[("1", 100)]), (none, half));
    }
}
