//! The Chinese help of the commands about sites, operators, agents and the audit log.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        command: "agents",
        about: "列出代理及其提供的 ISO 文件",
        after: "",
        args: &[("site", "仅该站点")],
    },
    Page {
        command: "agent",
        about: "让代理加入、恢复或吊销代理",
        after: "此处的每个命令都需要角色 admin。`ctl agents` 列出代理。",
        args: &[],
    },
    Page {
        command: "agent token",
        about: "签发一个令牌，供一个代理加入一次",
        after: "\
标准输出上只有令牌。令牌仅可使用一次，只供一个代理使用，含控制器地址及其 CA 的指纹；控制器只保存其哈希。不带 --agent 时\
代理自行取名（同其主机名），且不能占用已有的名称。以已有代理的名称给出 --agent 时，加入者取代原代理，旧证书此后被拒绝。\
在代理主机上请勿将令牌写在参数中：`agent join` 会询问，这样它不会出现在进程列表里。",
        args: &[
            ("site", "代理所属的站点"),
            ("agent", "代理名称；不给出则由代理自行取名"),
            ("life", "有效期，如 30m 或 4h [默认：按控制器设置，1h]"),
        ],
    },
    Page {
        command: "agent approve",
        about: "让证书已过期的代理恢复",
        after: "\
失联时间超过证书有效期的代理会以旧密钥签名申请恢复，无需人工操作。请将其新密钥的 SHA-256 与其主机日志中的核对：`ctl \
agents` 也会显示。",
        args: &[("agent", "代理名称"), ("key", "其申请所用密钥的 SHA-256")],
    },
    Page {
        command: "agent revoke",
        about: "吊销代理",
        after: "\
代理立即被吊销，其会话结束。它正在执行的内容留在集群上：作业可以移交其他代理。在其主机上停止它之前，它可能继续执行当前步骤。\
重新加入：ctl agent token --site SITE --agent NAME，再在其主机上执行 agent join TOKEN --again。",
        args: &[("agent", "代理名称")],
    },
    Page {
        command: "operator",
        about: "添加操作员、修改其权限或吊销操作员",
        after: "\
角色：viewer 只读；operator 还可部署、取消、重试和移交；admin 还可添加他人并读取审计日志。此处的每个命令都需要角色 admin。",
        args: &[],
    },
    Page {
        command: "operator add",
        about: "添加操作员：生成其配置文件，含私钥",
        after: "\
私钥在此生成，并在请求控制器之前已存入目录；请经安全途径将整个目录交给该操作员，并在此处删除。限定站点的操作员只能查看和\
操作属于这些站点的内容。

示例：
  ctl operator add li --role operator --out ./li
  ctl operator add wang --role viewer --site shanghai-1 --site beijing-2 --out ./wang
  ctl --profile ./li/ctl.toml version          li 此后可用",
        args: &[
            ("name", "操作员名称"),
            ("role", "权限：viewer、operator 或 admin"),
            ("sites", "仅该站点；可多次给出"),
            ("out", "要创建的目录，含配置文件、证书和私钥"),
        ],
    },
    Page {
        command: "operator set",
        about: "修改角色或站点",
        after: "自下一次调用起生效；该操作员已打开的事件流随即结束。",
        args: &[
            ("name", "操作员名称"),
            ("role", "此后的权限：viewer、operator 或 admin"),
            ("sites", "此后仅该站点；可多次给出"),
            ("all_sites", "此后为全部站点"),
        ],
    },
    Page { command: "operator list", about: "列出操作员", after: "", args: &[] },
    Page {
        command: "operator revoke",
        about: "吊销操作员",
        after: "\
该操作员立即被吊销，至今签发的所有证书一并失效。`ctl operator add` 可让该名称以新密钥重新加入。最后一名管理员不能吊销。",
        args: &[("name", "操作员名称")],
    },
    Page { command: "site", about: "添加和列出站点", after: "", args: &[] },
    Page {
        command: "site add",
        about: "添加站点",
        after: "添加已有的站点不产生任何变化。",
        args: &[("site", "站点名称")],
    },
    Page { command: "site list", about: "列出站点", after: "", args: &[] },
    Page {
        command: "audit",
        about: "显示谁做了什么；导出和校验审计日志",
        after: "\
每个操作有两条记录：执行之前的“已请求”，以及有结果之后的“已执行”或“已拒绝”（含原因）。记录以哈希相连。最后一行是日志的\
链头：其编号与哈希。在别处记下链头，日后即可查明至该链头的日志是否原样：ctl audit verify --head。",
        args: &[
            ("job", "仅与该作业有关"),
            ("by", "仅该操作员"),
            ("since", "仅自该时间起：2026-11-01、2026-11-01T08:00:00Z，或多久以前：90m、24h、7d"),
            ("limit", "最多列出的条数，取最新的"),
        ],
    },
    Page {
        command: "audit export",
        about: "将整个日志写入文件",
        after: "\
每行一条记录，从第一条到最后一条，各含自身及前一条的哈希。写入时即作校验，文件含 `ctl audit verify` 所需的一切。已有的文件\
不会改动。",
        args: &[("file", "要创建的文件")],
    },
    Page {
        command: "audit verify",
        about: "校验导出的文件；无需控制器",
        after: "\
查出任何被篡改、删除、乱序、重复或插入的记录。无需控制器。没有异常时退出码为 0，否则为 3。

有两点无法仅凭文件判断：末尾的记录被删除，以及整个日志被重写。为此请给出从别处得知的链头：`ctl audit` 或 `ctl audit \
export` 此前输出的（--head），或控制器当前的（--head-from-controller；文件须到该处为止，因此请在校验前再导出）。",
        args: &[
            ("file", "文件"),
            ("head", "此前记下的链头：文件中必须有该记录"),
            ("head_from_controller", "向控制器查询其当前的链头"),
        ],
    },
];
