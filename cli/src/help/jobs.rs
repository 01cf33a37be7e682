//! The Chinese help of the commands about jobs.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        command: "deploy",
        about: "部署一份规划表：保存一个作业，由站点的代理执行",
        after: "\
不带 --watch 时，作业一经保存 ctl 即以 0 退出。带 --watch 则跟踪至结束，退出码表示结果；Ctrl-C 只是离开。以相同的 \
--job-id 重复执行该命令不会产生第二个作业。

示例：
  ctl deploy planning.xlsx
  ctl deploy planning.xlsx --site shanghai-1 --watch
  ctl deploy planning.xlsx --set cloudtower.vm_name=tower-2 --on-failure keep
  ctl deploy planning.xlsx --stages deploy_cloudtower,attach_cluster --watch
  ctl deploy planning.xlsx --stages attach_cluster --watch     # 接入已有的 CloudTower
  ctl deploy planning.xlsx --watch -o json > result.json",
        args: &[
            ("site", "使用该站点的代理；只有一个代理时无需给出"),
            ("agent", "使用该代理"),
            ("job_id", "作业标识，版本 7 的 UUID [默认：新建]"),
        ],
    },
    Page {
        command: "jobs",
        about: "列出作业，最新的在前",
        after: "",
        args: &[("active", "仅未结束的作业"), ("site", "仅该站点"), ("limit", "最多列出的个数")],
    },
    Page { command: "show", about: "显示一个作业的全部信息", after: "", args: &[] },
    Page {
        command: "watch",
        about: "跟踪作业至结束；q 或 Ctrl-C 离开，作业继续",
        after: "\
在终端上占用整个屏幕：各步骤、剩余时间（含由以往作业得出的范围），下方是至今的消息，可用方向键、PgUp、PgDn、Home、End \
滚动。在管道中为逐行文字。使用 -o ndjson 时，每个事件、进度与作业变化在标准输出上各占一行。连接中断后从最后一个事件之后\
继续，不缺失也不重复。退出码表示作业的结果。",
        args: &[("from_seq", "从该编号的事件开始（含该事件；作业的首个事件为 1）")],
    },
    Page {
        command: "cancel",
        about: "在下一个安全点停止作业并回滚",
        after: "\
作业在下一个安全点停止，并清除已创建的对象；完整的 ISO 镜像保留。不带 --wait 时，请求一经保存 ctl 即以 0 退出。带 \
--wait：0 已取消且没有残留，5 有残留对象，7 作业此前已结束。作业回滚期间再次取消则不再等待回滚，无法确认已清除的对象会列出。",
        args: &[("wait", "等待作业停止并回滚完毕")],
    },
    Page {
        command: "pause",
        about: "在下一个安全点暂停作业",
        after: "\
安全点位于两个步骤之间，以及上传的两个分块之间。`ctl jobs` 显示已暂停时作业才真正停下；在此之前当前步骤会执行到底。",
        args: &[],
    },
    Page { command: "resume", about: "恢复已暂停的作业", after: "", args: &[] },
    Page {
        command: "upload",
        about: "在作业运行时或开始之前调整其上传",
        after: "\
设置在作业结束之前一直有效，代理重启后亦然；每次的设置与此前的叠加。暂停的上传从原处继续。上传情况见 `ctl watch`。",
        args: &[
            ("limit", "每秒最多字节数，如 40MiB/s、500KiB/s 或 12MB/s；`none`：不限速"),
            ("in_flight", "并行传输的分块数，1 至 16；`auto`：由代理自行决定"),
            ("pause", "暂不发送更多数据"),
            ("resume", "继续发送"),
        ],
    },
    Page {
        command: "retry",
        about: "重试失败或已取消的作业：已完成的保留，其余重做",
        after: "\
说明每个步骤是保留、重做还是受阻。步骤受阻是指它妨碍继续：它执行时的值与新计划不同，或它未完成而后面的步骤需要它。\
此时不作任何更改，退出码为 7。计划未通过时退出码为 3。",
        args: &[
            ("from", "从该步骤开始，而不是首个未完成的步骤"),
            ("plan", "修正后的规划表；其中的口令重新加密"),
            ("set", "优先于该规划表的值；可多次给出"),
            ("on_failure", "再次失败时已创建的对象如何处理：undo 清除，keep 保留以便查看 [默认：与此前相同]"),
            ("dry_run", "仅说明每个步骤将如何处理"),
        ],
    },
    Page {
        command: "decide",
        about: "答复等待操作员的作业的问题",
        after: "\
不给出 CHOICE 时显示问题、各个选项及其后果；作业等待时退出码为 8，未等待时为 7。代理收到答复后作业继续。",
        args: &[
            ("choice", "答复：问题中给出的选项；不给出则显示问题"),
            ("question", "只答复该编号的问题，不答复更新的问题"),
        ],
    },
    Page {
        command: "move",
        about: "将作业移交给站点的另一代理",
        after: "\
原代理在下一个安全点交出作业，不回滚任何内容，并予以确认；之后另一代理才根据作业日志继续。失败或已取消的作业立即移交，\
并在那里重试。由于口令只加密给一个代理，须再次给出规划表：同一文件、相同的 --set 值。

使用 --old-agent-is-off 则不作等待。您担保原代理已关机，并在其主机能连上控制器之前保持关机：两个代理同时操作一个集群\
可能创建两台虚拟机。此担保会记入作业日志。",
        args: &[
            ("agent", "接手作业的代理"),
            ("plan", "当时部署的规划表"),
            ("set", "优先于规划表的值，与部署时相同；可多次给出"),
            ("old_agent_is_off", "不等待原代理：您担保它已关机"),
            ("yes", "不再询问是否如此"),
        ],
    },
    Page {
        command: "resources", about: "列出作业创建、发现、清除和残留的对象", after: "", args: &[]
    },
    Page {
        command: "sweep",
        about: "列出站点上已结束作业的残留对象；加上 --yes 由其代理清除",
        after: "\
只清除作业自身日志中记录由其创建、且仍带有该作业标记的对象；完整的 ISO 镜像保留以便复用。不带 --yes 时不作任何改动。",
        args: &[("site", "该站点上所有已结束的作业"), ("job", "仅该作业"), ("yes", "清除")],
    },
];
