//! `ctl plan diff`, as it is typed.

use clap::Args as ClapArgs;

use super::PlanFile;

pub(super) const HELP: &str = "\
The agent of the site looks at the cluster (and, where the stages begin inside it, at CloudTower) by reads and logins \
alone, with the look-ups of the deployment itself, and says what a deployment would make, change, use as it is or \
stumble over. Nothing is stored and nothing is changed. It may take some minutes where a host does not answer or an ISO \
has to be read; Ctrl-C ends it. It needs the role operator: the passwords of the workbook are used.

Exit code 0 when nothing would be refused, 7 when something would, 3 when the workbook gives no plan.

Examples:
  ctl plan diff planning.xlsx --site shanghai-1
  ctl plan diff planning.xlsx --agent bastion-1 --set cloudtower.vm_name=tower-2
  ctl plan diff planning.xlsx --site shanghai-1 --stages attach_cluster
  ctl plan diff planning.xlsx --site shanghai-1 -o json | jq .counts";

/// See [`super::PlanCommand::Diff`].
#[derive(Debug, ClapArgs)]
pub(crate) struct PlanDiff {
    #[command(flatten)]
    pub(crate) plan: PlanFile,
    /// Ask the agent of this site; not needed when there is only one agent
    #[arg(long, conflicts_with = "agent")]
    pub(crate) site: Option<String>,
    /// Ask this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
}
