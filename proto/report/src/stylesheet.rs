//! How a report's page looks: in light, in dark and on paper. Nothing is fetched from anywhere.

/// The stylesheet.
pub(super) const STYLESHEET: &str = "
:root { color-scheme: light dark; --text: #1b2430; --dim: #5b6776; --line: #d9dfe7; --back: #f5f7fa; --card: #fff;
  --good: #14713d; --warn: #8a5a00; --bad: #b3261e; --bar: #3b6fd4; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e9f0; --dim: #9aa7b8; --line: #334052; --back: #12171e;
  --card: #1a212b; --good: #6fd19b; --warn: #f0b94d; --bad: #ff8a80; --bar: #7aa5f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
h3 { font-size: .95rem; margin: 1rem 0 .4rem; }
header p, .dim { color: var(--dim); margin: .2rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin-top: 1rem;
  overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--dim); }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
thead th { border-top: 0; color: var(--dim); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 500; color: var(--dim); width: min(14rem, 35vw); }
code { font: .87em ui-monospace, 'SFMono-Regular', Consolas, monospace; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.badge { font-weight: 600; } .badge::before { content: '● '; }
.bar { display: block; height: .45rem; min-width: 2px; border-radius: .2rem; background: var(--bar); }
@media print { :root { color-scheme: light; --text: #000; --dim: #444; --line: #bbb; --back: #fff; --card: #fff;
  --good: #14713d; --warn: #8a5a00; --bad: #b3261e; --bar: #555; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  section { border: 0; padding: .5rem 0; overflow: visible; }
  tr { break-inside: avoid; } h2, h3, thead { break-after: avoid; } .bar { print-color-adjust: exact; } }
@page { margin: 15mm; }
";
