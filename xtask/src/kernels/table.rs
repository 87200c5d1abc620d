//! The table of kernels and tests, and what is to be said beside it.

use std::collections::BTreeMap;

use super::guest::{Outcome, Report};
use super::packages::Kernel;
use super::plan::Plan;

/// Prints the table, reasons of what was skipped, and the words of what failed.
pub(crate) fn print(plan: &Plan, reports: &[(&Kernel, Report)]) {
    let width = plan.tests().map(|(b, t)| b.len() + t.len() + 1).max().unwrap_or(0);
    print!("\n{:width$}", "live test");
    for (kernel, _) in reports {
        print!(" {:>7}", kernel.series);
    }
    println!();
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (binary, test) in plan.tests() {
        print!("{:width$}", format!("{binary} {test}"));
        for (kernel, report) in reports {
            let outcome = report.of(binary, test);
            print!(" {:>7}", word(outcome));
            if let Some(Outcome::Skipped(why)) = outcome {
                reasons.entry(why).or_default().push(format!("{} {test}", kernel.series));
            }
        }
        println!();
    }
    println!();
    for (kernel, report) in reports {
        let count = |wanted: &str| {
            plan.tests().filter(|(binary, test)| word(report.of(binary, test)) == wanted).count()
        };
        println!(
            "{:6} {:28} {:>3} passed, {} of them at the second try, {} skipped, {} failed, {} not run, in {:.0} s",
            kernel.series,
            kernel.release,
            count("ok") + count("flaky"),
            count("flaky"),
            count("skip"),
            count("FAILED"),
            count("-"),
            report.took.as_secs_f64()
        );
    }
    if !reasons.is_empty() {
        println!("\nskipped:");
    }
    for (why, who) in &reasons {
        println!("  {why}: {}", who.join(", "));
    }
    for (kernel, report) in reports {
        for ((binary, test), outcome) in &report.outcomes {
            let (verdict, words) = match outcome {
                Outcome::Failed(words) => ("FAILED", words),
                Outcome::Flaky(words) => ("failed at its first try", words),
                _ => continue,
            };
            println!("\n--- {} {binary} {test}: {verdict}\n{}", kernel.series, words.trim_end());
        }
        if let Some(last) = &report.cut_off {
            println!("\n--- {} did not come to its end; its console:\n{last}", kernel.series);
        }
    }
}

fn word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "ok",
        Some(Outcome::Flaky(_)) => "flaky",
        Some(Outcome::Skipped(_)) => "skip",
        Some(Outcome::Failed(_)) => "FAILED",
        None => "-",
    }
}
