//! The words of a report's page, in every language: one table, in which no language can be left out.

use gantry_proto::{
    JobOutcome, UndoState, audit,
    ledger::State,
    v1::{JobState, OnFailure},
    view::StepState,
};

use super::{Deed, Lang};

/// Declares the terms. A line without one of its languages does not compile.
macro_rules! terms {
    ($($term:ident: $en:literal, $zh:literal;)*) => {
        /// Something that the page says by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Term {
            $($term,)*
        }

        impl Term {
            /// Every term.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$term,)*];

            /// The words.
            pub fn text(self, lang: Lang) -> &'static str {
                match (self, lang) {
                    $((Self::$term, Lang::En) => $en, (Self::$term, Lang::Zh) => $zh,)*
                }
            }
        }
    };
}

terms! {
    // The page and its parts.
    Title: "Hand-over report", "交付报告";
    Made: "report made", "报告生成时间";
    Quoted: "Messages are quoted as agents, clusters and operators gave them.", "消息按代理、集群与操作员的原文引用。";
    Overview: "Overview", "概览";
    Ending: "How it ended", "结果";
    Steps: "Steps and times", "步骤与耗时";
    Retries: "Failed attempts and retries", "失败与重试";
    Warnings: "Warnings", "告警";
    Objects: "Objects and their ids", "对象及其标识";
    Leftovers: "Left over", "残留对象";
    Licence: "Licence", "许可证";
    Health: "Health check", "健康检查";
    Stages: "Further stages", "后续阶段";
    Planned: "What was planned", "规划内容";
    People: "Who did what", "操作记录";
    Audit: "Audit log", "审计日志";
    Versions: "Versions", "版本";
    Everything: "Everything in the result", "结果全文";
    None: "none", "无";
    NotKnown: "not known", "未知";
    LeftOut: "older entries left out: ", "省略的较早条目：";
    // Names of values.
    Job: "job", "作业";
    Site: "site", "站点";
    State: "state", "状态";
    Url: "CloudTower", "CloudTower 地址";
    Address: "address", "IP 地址";
    Vm: "VM", "虚拟机";
    Cluster: "cluster", "集群";
    Organization: "organisation", "组织";
    Datacenter: "datacenter", "数据中心";
    Login: "login", "登录用户";
    LoginHint: "with the password of the workbook", "口令见规划表";
    Serial: "licence serial", "许可证序列号";
    Ntp: "NTP servers", "NTP 服务器";
    Dns: "DNS servers", "DNS 服务器";
    Workbook: "workbook", "规划表";
    PlanHash: "plan SHA-256", "计划 SHA-256";
    OnFailure: "on failure", "失败策略";
    Submitted: "submitted", "提交时间";
    Started: "started", "开始时间";
    Finished: "finished", "结束时间";
    SubmittedBy: "submitted by", "提交人";
    Logs: "logs on the agent", "代理上的日志";
    Total: "total time", "总耗时";
    Goal: "goal", "目标";
    WithinGoal: "within the goal of 45 minutes", "在 45 分钟目标之内";
    BeyondGoal: "longer than the goal of 45 minutes", "超过 45 分钟目标";
    Undo: "undo", "回滚";
    What: "what", "原因";
    Because: "because", "起因";
    Code: "code", "错误码";
    ToDo: "to do", "处理建议";
    // Heads of columns.
    Step: "step", "步骤";
    Took: "time", "耗时";
    Attempts: "attempts", "尝试次数";
    Phase: "phase", "阶段";
    At: "time (UTC)", "时间（UTC）";
    Epoch: "epoch", "轮次";
    Attempt: "attempt", "第几次";
    Message: "message", "消息";
    Kind: "kind", "类型";
    Name: "name", "名称";
    Id: "id", "标识";
    ByHand: "by hand", "手工处理";
    Key: "key", "键";
    Value: "value", "值";
    From: "from", "来源";
    By: "by", "操作人";
    Act: "act", "操作";
    About: "about", "说明";
    Role: "role", "角色";
    Remote: "from address", "来源地址";
    Agent: "agent", "代理";
    Controller: "controller", "控制器";
    Iso: "ISO", "ISO 文件";
    GuestOs: "operating system of the VM", "虚拟机操作系统";
    PlannedVersion: "CloudTower by the workbook", "规划表中的 CloudTower 版本";
    // Where a value comes from.
    Override: "given with --set", "由 --set 指定";
    Derived: "from", "推导自";
    Configuration: "the controller's settings", "控制器设置";
    Default: "built-in default", "内置默认值";
    // Phases.
    UploadPhase: "upload", "上传";
    CreatePhase: "creation of the VM", "创建虚拟机";
    GuestPhase: "guest agent", "Guest Agent";
    InstallPhase: "installer", "安装程序";
    // What is not there.
    NoPlan: "the plan is of another form than this version reads", "计划的格式本版本无法读取";
    NoLicence: "CloudTower told no licence", "CloudTower 未返回许可证";
    NoHealth: "no health check is part of this job", "本作业未包含健康检查";
    NotEnded: "the job has not ended", "作业尚未结束";
    NoAudit: "not part of this report: ", "未包含在本报告中：";
    // States of a job.
    Queued: "queued", "排队中";
    Running: "running", "运行中";
    Paused: "paused", "已暂停";
    NeedsOperator: "waits for an operator", "等待操作员";
    Succeeded: "succeeded", "成功";
    Failed: "failed", "失败";
    Cancelled: "cancelled", "已取消";
    // States of a step.
    Waiting: "not begun", "未开始";
    Retrying: "will be tried again", "将重试";
    Done: "done", "完成";
    Undoing: "being undone", "回滚中";
    Undone: "undone", "已回滚";
    UndoFailed: "could not be undone", "回滚失败";
    // What became of what a job had made.
    UndoNothing: "there was nothing to undo", "无需回滚";
    UndoRolledBack: "everything that the job had made is removed (a complete ISO image stays, for reuse)",
        "作业创建的对象已全部清除（完整的 ISO 镜像保留以便复用）";
    UndoIncomplete: "something could not be removed and is left over", "部分对象未能清除，已列出";
    UndoKept: "what the job had made is kept, as asked for", "按要求保留作业创建的对象";
    PolicyDefault: "as the controller is set", "按控制器设置";
    PolicyUndo: "remove what was made", "清除已创建的对象";
    PolicyKeep: "keep what was made", "保留已创建的对象";
    // States of objects.
    ObjectMade: "made by the job", "由作业创建";
    ObjectDelivered: "made by the job and handed over", "由作业创建并已交付";
    ObjectFound: "was there before", "原已存在";
    ObjectAsked: "asked for, may be there", "已请求，可能存在";
    ObjectUnfinished: "unfinished upload", "上传未完成";
    ObjectRemoved: "removed", "已清除";
    ObjectLeft: "left over", "残留";
    // Acts.
    ActSubmit: "submitted the job", "提交作业";
    ActStart: "began or went on", "开始或继续执行";
    ActCancel: "cancelled", "取消";
    ActPause: "paused", "暂停";
    ActResume: "let go on", "恢复";
    ActDecide: "decided", "决定";
    ActMove: "moved to another agent", "移交其他代理";
    ActVouch: "moved, and vouched that the old agent was off", "移交，并担保原代理已关机";
    AuditAsked: "asked", "已请求";
    AuditDone: "done", "已执行";
    AuditRefused: "refused", "已拒绝";
    AuditCutOff: "not known, cut off", "未知（中断）";
    // Steps that are known by their id.
    StepPreflight: "Check bastion, network and cluster", "检查堡垒机、网络与集群";
    StepUploadIso: "Upload the CloudTower ISO", "上传 CloudTower ISO";
    StepCreateVm: "Create the VM", "创建虚拟机";
    StepWaitGuestAgent: "Wait for the installation of the guest and its agent", "等待系统安装与 Guest Agent";
    StepConfigureNetwork: "Give the VM its address", "配置虚拟机网络";
    StepInstall: "Install CloudTower over SSH", "经 SSH 安装 CloudTower";
    StepVerifyHttps: "Wait for CloudTower's service", "等待 CloudTower 服务就绪";
    StepInitialSetup: "Set CloudTower up", "初始化 CloudTower";
    StepConfigureServices: "Configure NTP, licence and DNS", "配置 NTP、许可证与 DNS";
    StepAttachCluster: "Attach the cluster to CloudTower", "将集群关联到 CloudTower";
    StepCloudtowerConfig: "Configure CloudTower for the cluster", "为集群配置 CloudTower";
    StepCheckClusterHealthy: "Have CloudTower inspect the cluster", "由 CloudTower 巡检集群";
    StepCleanup: "Remove the ISO image", "删除 ISO 镜像";
    StepFinish: "Close the sessions", "关闭会话";
    // Stages that are known by their key.
    StageAttach: "Cluster attached to CloudTower", "集群接入 CloudTower";
    StageConfig: "CloudTower configured", "CloudTower 配置";
    StageHealth: "Health check of the cluster", "集群健康检查";
    StageCleanup: "Clean-up", "清理";
}

impl Term {
    /// The title of a step; [`None`] for one that only its agent can name.
    pub fn of_step(id: &str) -> Option<Self> {
        Some(match id {
            "preflight" => Self::StepPreflight,
            "upload-iso" => Self::StepUploadIso,
            "create-vm" => Self::StepCreateVm,
            "wait-guest-agent" => Self::StepWaitGuestAgent,
            "configure-network" => Self::StepConfigureNetwork,
            "install" => Self::StepInstall,
            "verify-https" => Self::StepVerifyHttps,
            "initial-setup" => Self::StepInitialSetup,
            "configure-services" => Self::StepConfigureServices,
            "attach-cluster" => Self::StepAttachCluster,
            "cloudtower-config" => Self::StepCloudtowerConfig,
            "check-cluster-healthy" => Self::StepCheckClusterHealthy,
            "cleanup" => Self::StepCleanup,
            "finish" => Self::StepFinish,
            _ => return None,
        })
    }

    /// The name of a stage; [`None`] for one that is known by its key alone.
    pub fn of_stage(key: &str) -> Option<Self> {
        Some(match key {
            "attach_cluster" => Self::StageAttach,
            "cloudtower_config" => Self::StageConfig,
            "check_cluster_healthy" => Self::StageHealth,
            "cleanup" => Self::StageCleanup,
            _ => return None,
        })
    }

    /// The name of a phase of the result's timings.
    pub fn of_phase(key: &str) -> Option<Self> {
        Some(match key {
            "upload_s" => Self::UploadPhase,
            "vm_create_s" => Self::CreatePhase,
            "guest_agent_s" => Self::GuestPhase,
            "installer_s" => Self::InstallPhase,
            "total_s" => Self::Total,
            _ => return None,
        })
    }
}

impl From<JobState> for Term {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Unspecified => Self::NotKnown,
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Paused => Self::Paused,
            JobState::NeedsOperator => Self::NeedsOperator,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<JobOutcome> for Term {
    fn from(outcome: JobOutcome) -> Self {
        match outcome {
            JobOutcome::Succeeded => Self::Succeeded,
            JobOutcome::Failed => Self::Failed,
            JobOutcome::Cancelled => Self::Cancelled,
        }
    }
}

impl From<StepState> for Term {
    fn from(state: StepState) -> Self {
        match state {
            StepState::Waiting => Self::Waiting,
            StepState::Running => Self::Running,
            StepState::Retrying => Self::Retrying,
            StepState::Done => Self::Done,
            StepState::Failed => Self::Failed,
            StepState::Undoing => Self::Undoing,
            StepState::Undone => Self::Undone,
            StepState::UndoFailed => Self::UndoFailed,
        }
    }
}

impl From<UndoState> for Term {
    fn from(undo: UndoState) -> Self {
        match undo {
            UndoState::Nothing => Self::UndoNothing,
            UndoState::RolledBack => Self::UndoRolledBack,
            UndoState::RollbackIncomplete => Self::UndoIncomplete,
            UndoState::Kept => Self::UndoKept,
        }
    }
}

impl From<OnFailure> for Term {
    fn from(policy: OnFailure) -> Self {
        match policy {
            OnFailure::Unspecified => Self::PolicyDefault,
            OnFailure::Undo => Self::PolicyUndo,
            OnFailure::Keep => Self::PolicyKeep,
        }
    }
}

impl From<State> for Term {
    fn from(state: State) -> Self {
        match state {
            State::Made => Self::ObjectMade,
            State::Delivered => Self::ObjectDelivered,
            State::Found => Self::ObjectFound,
            State::Asked => Self::ObjectAsked,
            State::Unfinished => Self::ObjectUnfinished,
            State::Removed => Self::ObjectRemoved,
            State::LeftOver => Self::ObjectLeft,
        }
    }
}

impl From<Deed> for Term {
    fn from(deed: Deed) -> Self {
        match deed {
            Deed::Submit => Self::ActSubmit,
            Deed::Start => Self::ActStart,
            Deed::Cancel => Self::ActCancel,
            Deed::Pause => Self::ActPause,
            Deed::Resume => Self::ActResume,
            Deed::Decide => Self::ActDecide,
            Deed::Move => Self::ActMove,
            Deed::Vouch => Self::ActVouch,
        }
    }
}

impl From<audit::Outcome> for Term {
    fn from(outcome: audit::Outcome) -> Self {
        match outcome {
            audit::Outcome::Asked => Self::AuditAsked,
            audit::Outcome::Done => Self::AuditDone,
            audit::Outcome::Refused => Self::AuditRefused,
            audit::Outcome::CutOff => Self::AuditCutOff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_has_words_in_every_language() {
        // The same in both: names that people do not translate.
        const NAMES: [Term; 1] = [Term::GuestPhase];
        for term in Term::ALL {
            let (en, zh) = (term.text(Lang::En), term.text(Lang::Zh));
            assert!(!en.trim().is_empty() && en.is_ascii(), "{term:?}: {en}");
            assert!(NAMES.contains(term) || !zh.is_ascii(), "{term:?}: {zh}");
        }
    }
}
