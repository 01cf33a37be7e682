//! The Chinese help of the commands about campaigns.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        command: "campaign",
        about: "部署到多个站点：金丝雀站点、并行数、失败预算",
        after: "\
批量部署将规划表逐一部署到多个站点。`run` 创建并跟踪其作业；其他命令可在任何能访问其状态文件的地方查看或暂停它。",
        args: &[],
    },
    Page {
        command: "campaign run",
        about: "部署到多个站点：金丝雀站点先行，然后按并行数进行，直至失败预算用完",
        after: "\
DIR 是含每个站点规划表的目录，文件名为 SITE.xlsx。LIST 是每行为 SITE,WORKBOOK[,AGENT] 的文本文件（路径相对于列表所在目录；\
# 开头为注释；最多 1000 个站点）。每个站点需要自己的代理；有多个代理时以第三个字段指定。

首先由控制器校验每份规划表，并一次列出全部问题；有问题时不提交任何作业。然后部署金丝雀站点，即最前面的若干个站点。金丝雀站点\
全部成功后其他站点才开始，同时进行的作业不超过给定个数。失败作业达到给定个数后不再开始新作业；进行中的会跟踪至结束。\
作业失败、已取消、被控制器拒绝，以及等待操作员期间，都计为失败。金丝雀站点失败也会使批量部署停止。

状态文件记录每个站点的作业，在提交之前写入：ctl 被终止或离开后，以同一命令即可继续，任何站点都不会部署两次。未给出的选项\
沿用上一次的值。失败的站点保留其作业：先用 `ctl retry JOB` 重试，再次执行批量部署时会查看其状态；被拒绝的站点会重新提交。

退出码：0 全部站点成功，或 Ctrl-C（作业继续，不再开始新作业）；3 有规划表未通过；否则为最严重的情形：5 有残留对象，8 有作业\
等待操作员，4 有作业失败，7 有站点被拒绝，130 有作业已取消。

示例：
  ctl campaign run sites/
  ctl campaign run night-1.csv --max-parallel 8 --canary 2 --max-failures 3
  ctl campaign run night-1.csv --max-failures 5          加大预算后继续
  ctl campaign run sites/ --skip-invalid -o json > summary.json",
        args: &[
            ("max_parallel", "同时进行的作业数，最多 64 [默认：4]"),
            ("canary", "金丝雀站点的个数，须全部成功后其他站点才开始 [默认：1]"),
            ("max_failures", "失败达到该个数后不再开始新作业 [默认：1]"),
            ("skip_invalid", "跳过规划表有误的站点，而不是一个都不开始"),
            ("set", "优先于每份规划表的值；可多次给出（键见 ctl plan fields）"),
        ],
    },
    Page {
        command: "campaign status",
        about: "显示批量部署的状态",
        after: "状态文件的内容，以及控制器对进行中作业的说明；没有控制器时仅为文件内容。",
        args: &[],
    },
    Page {
        command: "campaign pause",
        about: "不再开始批量部署的新作业",
        after: "两秒内不再开始新作业；进行中的会执行到底。单个作业用 `ctl pause JOB` 暂停。",
        args: &[],
    },
    Page {
        command: "campaign resume",
        about: "恢复已暂停的批量部署",
        after: "仍在运行的 `ctl campaign run` 会自行继续；否则请重新执行该命令。",
        args: &[],
    },
];
