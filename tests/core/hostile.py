"""What a name, a message or a line of SQL could be made of to act on whoever looks at it: in a browser or in a terminal.

Every payload that runs sets ``window.pwned``; every one that fetches asks ``CANARY``, which a test replaces by a server that counts.
"""

from __future__ import annotations

CANARY = "http://canary.invalid"
_JS = "window.pwned=1"

MARKUP = (
    f"<script>{_JS}</script>",
    f"</script><script>{_JS}</script>",
    f"<!--<script>{_JS}//--></script><script>{_JS}</script>",
    f"</noscript><script>{_JS}</script>",
    f"</style><script>{_JS}</script>",
    f"</title><script>{_JS}</script>",
    f"</textarea><script>{_JS}</script>",
    f"]]><script>{_JS}</script>",
    f'"><script>{_JS}</script>',
    f"'><script>{_JS}</script>",
    f"<ScRiPt>{_JS}</sCrIpT>",
    f"<script src={CANARY}/a.js></script>",
    f"<img src=x onerror={_JS}>",
    f'<img src="{CANARY}/img.png">',
    f"<svg onload={_JS}>",
    f"<svg><script>{_JS}</script></svg>",
    f"<svg><animate onbegin={_JS} attributeName=x dur=1s>",
    f'<svg><image href="{CANARY}/svg.png"/></svg>',
    f"<svg><foreignObject><iframe srcdoc='<script>parent.{_JS}</script>'></iframe></foreignObject></svg>",
    f'<svg><use href="{CANARY}/x.svg#a"/></svg>',
    f'<svg><a href="javascript:{_JS}"><text y=20>x</text></a></svg>',
    f"<iframe srcdoc='<script>parent.{_JS}</script>'></iframe>",
    f'<iframe src="javascript:parent.{_JS}"></iframe>',
    f'<object data="{CANARY}/o"></object>',
    f'<embed src="{CANARY}/e">',
    f'<link rel=stylesheet href="{CANARY}/s.css">',
    f'<style>@import url("{CANARY}/i.css");body{{display:none}}</style>',
    f'<div style="background:url({CANARY}/bg.png);position:fixed;inset:0">x</div>',
    f'<meta http-equiv=refresh content="0;url={CANARY}/r">',
    f'<base href="{CANARY}/">',
    f'<form action="{CANARY}/f"><button autofocus onfocus={_JS}>x</button></form>',
    f"<input autofocus onfocus={_JS}>",
    f"<details open ontoggle={_JS}>",
    f"<video><source onerror={_JS}></video>",
    f"<audio src=x onerror={_JS}>",
    f"<body onload={_JS}>",
    f"<math><mtext></p><img src=x onerror={_JS}>",
    f"<template><script>{_JS}</script></template>",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    f"&lt;script&gt;{_JS}&lt;/script&gt; &#60;img src=x onerror={_JS}&#62;",
)
TEMPLATES = (
    "{{ 7 * 7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ data | safe }}",
    f"${{{_JS}}}",
    f"`;{_JS};`",
    f'\\u003cscript\\u003e{_JS}\\u003c/script\\u003e";{_JS};//',
    f"javascript:{_JS}",
    "__proto__",
    "constructor",
    "url(#lt-failed) } * { display: none }",
    f"x\u2028;{_JS}\u2029",
)
CONTROLS = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;owned\x07",
    "\x1b]8;;http://canary.invalid\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H\x1b[?1049h",
    "\x9b2Jc1",
    "over\rwritten",
    "back\x08\x08\x08\x08space",
    "\u202egnp.exe",
    "\u2066\u202eright\u2069 to left\u202c",
    "\u200bzero\u200bwidth\ufeff",
    "نموذج שם 模型",
    "Z̷̢͇̎a̴͙̓l̵̺̈́g̶̦̈́o",
    "null\x00byte",
    "lone \udc80 surrogate",
)
PAYLOADS = (*MARKUP, *TEMPLATES, *CONTROLS)
