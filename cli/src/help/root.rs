//! The Chinese help of `ctl` itself and what many commands take.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        command: "",
        about: "经堡垒机将 CloudTower 部署到 SmartX 集群：操作员一侧",
        after: "\
退出码：
    0  完成（含有警告的情形）；watch 中按 q 或 Ctrl-C：作业继续
    1  ctl 或控制器内部错误
    2  命令行、配置文件或作业标识有误
    3  规划表未通过或无法读取；审计日志校验不通过
    4  作业失败，已创建的对象已清除，或按策略保留
    5  作业失败或已取消，有残留对象（已列出）
    6  无法连接控制器
    7  被控制器拒绝（证书、角色或当前状态）；plan diff：部署会被拒绝
    8  作业等待操作员
  130  作业已取消，没有残留

示例：
  ctl plan check planning.xlsx             校验规划表，无需控制器
  ctl deploy planning.xlsx --watch         部署并跟踪至结束
  ctl jobs --active                        查看进行中的作业
  ctl watch 3f2a1b0c                       跟踪作业；q 只是离开
  ctl cancel 3f2a1b0c --reason \"wrong site\" --wait",
        args: &[
            ("controller", "控制器地址，https://HOST:PORT；优先于配置文件"),
            ("profile", "含控制器地址和您的证书的配置文件 [默认：$XDG_CONFIG_HOME/gantry/ctl.toml]"),
            (
                "output",
                "标准输出上结果的格式：table（供人阅读）、json（一个文档）、ndjson（每行一个对象）、html（网页，仅 ctl report）",
            ),
            ("no_color", "不使用颜色；与环境变量 NO_COLOR 作用相同"),
            ("lang", "显示文字的语言：en 或 zh [环境变量：GANTRY_LANG] [默认：随系统环境]"),
            ("timeout", "等待控制器每次答复的最长时间，如 30s 或 2m"),
            ("verbose", "在标准错误上输出日志；重复一次则更详细（也遵循 RUST_LOG）"),
            ("version", "显示版本"),
        ],
    },
    Page {
        command: "*",
        about: "",
        after: "",
        args: &[
            ("help", "显示帮助"),
            ("job", "作业标识；其开头或结尾的一段，只要不与其他作业重复即可"),
            ("reason", "原因，记入作业日志"),
            ("watch", "跟踪作业至结束"),
            ("file", "规划表，.xlsx"),
            ("set", "优先于规划表的值；可多次给出（键见 ctl plan fields）"),
            (
                "stages",
                "执行哪些阶段，以逗号分隔：prepare、deploy_cloudtower、attach_cluster、cloudtower_config、\
                 check_cluster_healthy、cleanup [默认：prepare,deploy_cloudtower]",
            ),
            ("on_failure", "失败作业已创建的对象如何处理：undo 清除，keep 保留以便查看 [默认：按控制器设置]"),
            ("sites", "每个站点有一份规划表的目录，或列出它们的文件"),
            ("state", "批量部署的状态文件 [默认：与 DIR 或 LIST 同处的 DIR.campaign.json 或 LIST.campaign.json]"),
        ],
    },
    Page {
        command: "version", about: "显示 ctl 的版本，以及可连接时控制器的版本", after: "", args: &[]
    },
    Page {
        command: "completions", about: "输出 Shell 的补全脚本", after: "", args: &[("shell", "Shell 名称")]
    },
    Page {
        command: "web",
        about: "输出一个打开控制器网页的链接",
        after: "\
链接仅可使用一次，且很快失效；打开者在会话结束之前以您的名义和角色操作。浏览器须能访问 ctl 所用的控制器地址，\
并信任控制器的 CA（配置文件旁的 ca.pem），或手动确认信任。",
        args: &[],
    },
    Page {
        command: "explain",
        about: "解释一个代码：原因、查看位置与处理办法；无需控制器",
        after: "\
代码见于 `ctl show`、`ctl watch` 的结尾、`ctl plan check` 的问题、事件以及审计日志。无需控制器。不给出 CODE 时列出\
全部代码。JSON 为英文，除非以 --lang 指定。没有该代码时退出码为 2，并列出相近的代码。",
        args: &[("code", "代码；不给出则列出全部")],
    },
];
