"""Texts of many kinds, the same on every machine: what the margins of the expected amount are measured on.

Rule: nothing here is copied; each text is written for this file or generated from a seed, so that counts can be kept.
"""

# ruff: noqa: E501 - a text is as wide as it is
import json
import random
from base64 import b64encode
from collections.abc import Mapping
from functools import cache

from benchmarks.prompt_bound import HARD, PASSAGES

_SEED = 20_260_801
_CHARS = 4000

_ENGLISH = """
The committee met on Tuesday to look at what had gone wrong. Nobody wanted to say it first, but the schedule had been
too tight from the day it was drawn up, and everyone in the room had signed it. The bookkeeper read out
the figures in a flat voice: eleven weeks late, forty per cent over, two suppliers gone. "We could have stopped in
March," came the answer, "and we'd have lost a tenth of it." There was a long silence. Outside, a lorry was unloading gravel.

To install the package, create a virtual environment first, then run the command below. If you see a permission error,
do not use sudo: check that the environment is active. The configuration file is read once at start; changes need a
restart. Unknown keys are an error, because a misspelled option that is silently ignored is the worst kind of bug.

Photosynthesis converts carbon dioxide and water into glucose and oxygen; chlorophyll absorbs mostly blue and red light.
In dry climates some plants open their stomata only at night and store the carbon as malic acid until morning. The
trade-off costs energy but saves water, which is why cacti, pineapples and agaves all arrived at it independently.
"""

_RARE_ENGLISH = """
Quixotic zephyrs vexed the xylophone's echo; phlegmatic wyverns juggled onyx gewgaws by the Guadalquivir. Szczebrzeszyn,
O'Higgins & Llanfairpwllgwyngyll LLP (est. MDCCCXCIV) v. Popocatepetl Hydroponics GmbH, 17 F.4th 233: "caveat emptor," quoth
the oenophile. Antidisestablishmentarianism, floccinaucinihilipilification, otorhinolaryngologist, pneumoconiosis,
honorificabilitudinitatibus; 5-methyl-2-(propan-2-yl)cyclohexan-1-ol, acetylcholinesterase, dichlorodiphenyl-
trichloroethane. iPhone eBay LaTeX GitHub PostgreSQL kubectl nginx systemd initramfs ffmpeg libx264 zstd btrfs eBPF.
"""

_PYTHON = '''
class Pool:
    """Keeps a bounded number of connections; the oldest idle one is handed out first."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, limit: int = 16) -> None:
        self._connect, self._limit = connect, limit
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._open = 0

    async def take(self, *, timeout_seconds: float | None = None) -> Connection:
        while self._idle:
            connection = self._idle.popleft()
            if not connection.is_closed:
                return connection
            self._open -= 1
        if self._open < self._limit:
            self._open += 1
            try:
                return await self._connect()
            except BaseException:
                self._open -= 1
                raise
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await asyncio.wait_for(future, timeout_seconds)
'''

_C_AND_SQL = """
static inline uint32_t rotl32(uint32_t x, int8_t r) { return (x << r) | (x >> (32 - r)); }
#define MIN(a, b) ((a) < (b) ? (a) : (b))
for (size_t i = 0; i + 8 <= len; i += 8) {\n\t\tuint64_t k = *(const uint64_t *)(p + i);\n\t\th ^= k * 0x9E3779B97F4A7C15ULL;\n\t\th = (h << 31) | (h >> 33);\n\t}
SELECT o.id, c.name, SUM(l.qty * l.price_cents) AS total FROM orders o JOIN customers c ON c.id = o.customer_id
LEFT JOIN order_lines l ON l.order_id = o.id WHERE o.created_at >= '2026-01-01' AND o.status IN ('paid', 'sent')
GROUP BY o.id, c.name HAVING SUM(l.qty) > 3 ORDER BY total DESC NULLS LAST LIMIT 50 OFFSET 100;
CREATE INDEX CONCURRENTLY idx_orders_status_created ON orders (status, created_at) WHERE deleted_at IS NULL;
<div class="card card--wide" data-id="42"><h2 class="card__title">{{ title|escape }}</h2><p>&copy; 2026 &mdash; ok</p></div>
.card--wide > .card__title:not(:first-child)::before { margin: 0 -1px .5rem auto; color: rgba(17, 34, 51, .75) !important }
"""

_MINIFIED = (
    '!function(e,t){"object"==typeof exports&&"undefined"!=typeof module?module.exports=t():e.Q=t()}(this,(function(){'
    '"use strict";var e=Object.assign||function(e){for(var t=1;t<arguments.length;t++){var n=arguments[t];for(var r in n)'
    "n.hasOwnProperty(r)&&(e[r]=n[r])}return e};function t(e,t){return null==e?t:e}const n=new Map,r=/^(?:\\s*[\\w$]+)=>/gi;"
    "let i=0,o=!0,a=[],u=void 0;for(;i<64;i++)a[i]=~~(Math.abs(Math.sin(i+1))*4294967296)|0;return{get:(e,r)=>n.has(e)?"
    "n.get(e):t(r,u),set:function(e,t){o&&(n.set(e,t),a.push([e,t,+new Date]))},x:e=>e?.y?.[0]??-1,z:(...e)=>e.reduce("
    "((e,t)=>e^t>>>3&0xff),5381)}}));"
)  # fmt: skip

_IDENTIFIERS = """
getUserAccountPreferencesByIdAsync setIsInitializedFromLocalStorage onBeforeUnmountComponentHandler XMLHttpRequestFactory
get_user_account_preferences_by_id __init_subclass__ MAX_RETRY_COUNT_PER_HOST HTTP_STATUS_NOT_FOUND ENABLE_FEATURE_X
SELECT FROM WHERE GROUP BY ORDER BY HAVING LIMIT OFFSET; NASA UNESCO HTTP URL API JSON XML HTML CSS SQL ID CPU GPU USB
../../../../src/app/(dashboard)/page.tsx https://www.example.com/a/b?utm_source=x&utm_medium=y#z user@mail.example.org
WARNING: DO NOT EDIT. THIS FILE WAS GENERATED BY THE BUILD. CHANGES WILL BE LOST WHEN IT RUNS AGAIN.
"""

_MARKUP = r"""
# Title ## Part | --- | :---: | ----: |
+-----+---------+--+ //////// ---- ==== **bold** __x__ `code` ~~~ ```python
\frac{\partial^2 u}{\partial x^2} + \alpha_{i,j}^{(n)} = \mathbb{E}[X_t] \n\t\"\u00e9\x00
wait... no.... yes........ what?! no!!! </td></tr></table></div></div> -=-=-=-=-=-
"""

_PLAIN_LETTERS = """
Donaudampfschifffahrtsgesellschaft, Bundesverfassungsgericht, Krankenversicherung und Arbeitslosigkeit stehen im Heft.
Zuotian wanshang xia le yi chang da yu, suoyi women mei neng qu shichang. Maicai de ren shuo xia ge xingqi hui zhang.
Jana jioni kulinyesha mvua kubwa kwa hivyo hatukuweza kwenda sokoni; muuzaji alisema bei ya mboga itapanda wiki ijayo.
Eilen illalla satoi rankasti, joten emme voineet menna torille; kauppias sanoi vihannesten hintojen nousevan.
Bydgoszcz, Krzyworzeka; Nghe An, Ogbomosho; Bhubaneswar, Xochimilco; Featherstonehaugh, Nsukka; Noordwijkerhout.
"""

# A few simple sentences in each language, written for this file.
_SENTENCES: Mapping[str, str] = {
    "german": (
        "Die Verhandlungsführerin erklärte, dass die Krankenversicherungsbeiträge im nächsten Jahr leicht steigen. "
        "Über die Größe der Veränderung müsse noch gesprochen werden; für Beschäftigte ändere sich vorläufig nichts."
    ),
    "french": (
        "L'été dernier, nous avons traversé la forêt où les chênes étaient tombés après la tempête. Ça n'a pas été "
        "facile, mais à Noël tout sera prêt, même la clôture près du cœur du village."
    ),
    "vietnamese": (
        "Buổi sáng hôm qua trời mưa rất to nên chúng tôi không thể ra chợ. Người bán hàng nói rằng giá rau sẽ tăng "
        "vào tuần tới, nhưng cá vẫn rẻ như trước."
    ),
    "russian": (
        "Вчера вечером мы долго говорили о том, как починить старую крышу. Если дождь не прекратится до пятницы, "
        "придётся отложить поездку и занять деньги у соседей."
    ),
    "greek": (
        "Χθες το βράδυ η θάλασσα ήταν ήσυχη και τα καΐκια έμειναν στο λιμάνι. Ο ψαράς είπε ότι ο καιρός θα αλλάξει "
        "πριν από την Κυριακή."
    ),
    "arabic": (
        "قرر المجلس تأجيل الاجتماع إلى يوم الخميس القادم بسبب سوء الأحوال الجوية. وقالت المديرة إن الميزانية الجديدة "
        "ستُعرض على الموظفين قبل نهاية الشهر، ثم تُرسل إلى الوزارة."
    ),
    "hebrew": "אתמול בערב ירד גשם חזק ולכן נשארנו בבית. המוכר אמר שמחירי הירקות יעלו בשבוע הבא, אבל הדגים עדיין זולים.",
    "hindi": (
        "कल शाम को बहुत तेज़ बारिश हुई, इसलिए हम बाज़ार नहीं जा सके। दुकानदार ने कहा कि अगले सप्ताह सब्ज़ियों के दाम बढ़ेंगे, "
        "लेकिन मछली अभी भी सस्ती है। विद्यार्थियों ने प्रश्नपत्र समय पर जमा किया।"
    ),
    "bengali": "গতকাল সন্ধ্যায় খুব বৃষ্টি হয়েছিল, তাই আমরা বাজারে যেতে পারিনি। দোকানদার বললেন যে আগামী সপ্তাহে সবজির দাম বাড়বে।",
    "tamil": (
        "நேற்று மாலை பலத்த மழை பெய்ததால் எங்களால் சந்தைக்குச் செல்ல முடியவில்லை. அடுத்த வாரம் காய்கறிகளின் விலை உயரும் என்று "
        "கடைக்காரர் கூறினார், ஆனால் மீன் இன்னும் மலிவாக உள்ளது."
    ),
    "malayalam": "ഇന്നലെ വൈകുന്നേരം കനത്ത മഴ പെയ്തതിനാൽ ഞങ്ങൾക്ക് ചന്തയിൽ പോകാൻ കഴിഞ്ഞില്ല. അടുത്ത ആഴ്ച പച്ചക്കറികളുടെ വില കൂടുമെന്ന് കടക്കാരൻ പറഞ്ഞു.",
    "thai": (
        "เมื่อวานตอนเย็นฝนตกหนักมาก เราจึงไปตลาดไม่ได้ คนขายบอกว่าราคาผักจะขึ้นในสัปดาห์หน้า แต่ปลายังราคาถูกเหมือนเดิม "
        "นักเรียนทุกคนส่งงานตรงเวลา"
    ),
    "burmese": "မနေ့က ညနေမှာ မိုးသည်းထန်စွာ ရွာသောကြောင့် ကျွန်ုပ်တို့ ဈေးသို့ မသွားနိုင်ခဲ့ပါ။",
    "khmer": "ម្សិលមិញ ល្ងាច មាន ភ្លៀង ធ្លាក់ ខ្លាំង ដូច្នេះ យើង មិន អាច ទៅ ផ្សារ បាន ទេ។",
    "georgian": "გუშინ საღამოს ძლიერი წვიმა იყო, ამიტომ ბაზარში ვერ წავედით. გამყიდველმა თქვა, რომ ფასები მოიმატებს.",
    "chinese": (
        "昨天晚上下了一场大雨,所以我们没能去市场。卖菜的人说下个星期蔬菜的价格会上涨,但是鱼还是和以前一样便宜。会议推迟到星期四举行,"
        "新的预算将在月底之前提交给全体员工讨论。"
    ),
    "traditional": "昨天晚上下了一場大雨,所以我們沒能去市場。賣菜的人說下個星期蔬菜的價格會上漲,但是魚還是和以前一樣便宜。",
    "japanese": (
        "昨日の夕方は大雨だったので、私たちは市場に行けませんでした。店の人は来週野菜の値段が上がると言っていましたが、"
        "魚はまだ安いそうです。会議は木曜日に延期され、新しい予算案は月末までに社員へ説明されます。"
    ),
    "korean": (
        "어제 저녁에 비가 많이 와서 우리는 시장에 갈 수 없었습니다. 가게 주인은 다음 주에 채소 값이 오를 것이라고 말했지만 "
        "생선은 아직 저렴합니다."
    ),
}  # fmt: skip


@cache
def corpus() -> dict[str, str]:
    """Return every text by name."""
    rng = random.Random(_SEED)
    scripts = {f"{name} article": text for name, text in PASSAGES.items()}
    return {
        "english": _ENGLISH,
        "rare english": _RARE_ENGLISH,
        "python": _PYTHON,
        "c, sql, html": _C_AND_SQL,
        "minified script": _MINIFIED,
        "identifiers": _IDENTIFIERS,
        "markup": _MARKUP,
        "plain letters": _PLAIN_LETTERS,
        **_json_texts(rng),
        **_digits(rng),
        **_blanks(rng),
        **_noise(rng),
        **_SENTENCES,
        **scripts,
        **{f"hard {name}": text for name, text in HARD.items()},
    }


def _json_texts(rng: random.Random) -> dict[str, str]:
    words = _ENGLISH.split()
    rows = [
        {
            "id": rng.randrange(10**9),
            "name": " ".join(rng.sample(words, 3)),
            "price": round(rng.random() * 1000, 2),
            "tags": rng.sample(words, 2),
            "active": rng.random() < 0.5,
            "at": f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:15:00Z",
            "parent": None,
        }
        for _ in range(16)
    ]
    csv = "\n".join(f"{row['id']},{row['price']},{row['name']},{row['active']},{row['at']}" for row in rows)
    return {
        "json": json.dumps(rows, separators=(",", ":")),
        "json indented": json.dumps(rows, indent=4),
        "csv": csv,
        "log": "\n".join(f"{row['at']} INFO worker[{at * 613}] GET /v1/{row['tags']} 200 0.0{at}s" for at, row in enumerate(rows)),
    }  # fmt: skip


def _digits(rng: random.Random) -> dict[str, str]:
    return {
        "digits": "".join(rng.choice("0123456789") for _ in range(_CHARS)),
        "numbers": " ".join(str(rng.randrange(10 ** rng.randrange(1, 12))) for _ in range(400)),
        "decimals": ", ".join(f"{rng.random() * 100:.4f}" for _ in range(300)),
        "hex": bytes(rng.randrange(256) for _ in range(_CHARS // 2)).hex(),
        "uuids": "\n".join(f"{rng.getrandbits(128):032x}" for _ in range(60)),
    }


def _blanks(rng: random.Random) -> dict[str, str]:
    runs = "".join(rng.choice(" \n\t") * rng.randrange(1, 60) for _ in range(150))
    table = "\n".join(
        f"{rng.randrange(99):<24}{rng.choice(_ENGLISH.split()):>40}{'.' * rng.randrange(30)}" for _ in range(60)
    )
    return {
        "spaces": " " * _CHARS,
        "tabs": "\t" * _CHARS,
        "newlines": "\n" * _CHARS,
        "blanks mixed": runs,
        "table": table,
        "short spaces": "a  b   c    d     e      f " * 100,
        "deep code": "".join(" " * (4 * depth) + "if x:\n" for depth in range(40)),
        "carriage returns": "line one\r\n\r\n\tline two\r\n" * 120,
        "rules": "=" * 500 + "-" * 500 + "#" * 500 + "*" * 300 + "_" * 300 + "~" * 300,
    }  # fmt: skip


def _noise(rng: random.Random) -> dict[str, str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    unicode = [*range(0xA1, 0x3000), *range(0x3041, 0xD7A4)]
    raw = bytes(rng.randrange(256) for _ in range(_CHARS * 3 // 4))
    emoji = [*range(0x1F300, 0x1F650), *range(0x1F680, 0x1F6C6), *range(0x1F900, 0x1F9FF), *range(0x2600, 0x26FF)]
    return {
        "base64": b64encode(raw).decode(),
        "random ascii": "".join(chr(rng.randrange(32, 127)) for _ in range(_CHARS)),
        "random letters": "".join(rng.choice(letters) for _ in range(_CHARS)),
        "random capitals": "".join(rng.choice(letters.upper()) for _ in range(_CHARS)),
        "random words": " ".join("".join(rng.choice(letters) for _ in range(rng.randrange(1, 9))) for _ in range(700)),
        "random camel": "".join("".join(rng.choice(letters) for _ in range(4)).title() for _ in range(900)),
        "one letter": "a" * 1000 + "A" * 1000,
        "dna": "".join(rng.choice("ACGT") for _ in range(1000)),
        "punctuation": "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(_CHARS)),
        "spaced punctuation": " ".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(1500)),
        "emoji": "".join(chr(rng.choice(emoji)) for _ in range(600)),
        "random unicode": "".join(chr(rng.choice(unicode)) for _ in range(1200)),
        "random han": "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(900)),
        "random supplementary": "".join(chr(rng.randrange(0x10000, 0x1F000)) for _ in range(500)),
        "latin letters": "".join(chr(rng.randrange(0xC0, 0x250)) for _ in range(1000)),
    }
