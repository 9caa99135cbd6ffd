"""Letters and common words of languages, by which the encoding of a text is recognised.

``letters`` are those that are not ASCII, the most frequent ones first; ``words`` are common words in ASCII letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LanguageProfile:
    """The letters of a language, the encodings that it was written in, and its most common ASCII words."""

    letters: str
    encodings: tuple[str, ...]
    words: frozenset[str] = frozenset()


#: Encodings of languages by region, the most usual one first.
_WESTERN = "cp1252 iso8859_15 mac_roman cp850 cp437"
_CENTRAL = "cp1250 iso8859_2 cp852 mac_latin2"
_BALTIC = "cp1257 iso8859_13"
_CYRILLIC = "cp1251 koi8_r cp866 iso8859_5 mac_cyrillic"
_ROWS: Mapping[str, tuple[str, str, str]] = {
    "german": (
        "üäößÜÖÄé",
        _WESTERN,
        "der die und das den von ist zu mit nicht ein eine im auf dem des sich als auch es an er aus bei wird",
    ),
    "french": (
        "éèàêçôùîâûëïœÉÀÇÈÊæÿÔÎ",
        _WESTERN,
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec ou aux",
    ),
    "italian": (
        "èàùòéìÈÀîóÙ",
        _WESTERN,
        "di e il la che in un a per del una non sono della da si i le con dei al nel alla come anche lo gli delle o",
    ),
    "spanish": (
        "óíáéñúüÁÉÓÍÚÑ",
        _WESTERN,
        "de la que el en y a los se del las un por con no una su para es al lo como o pero sus le ha este sin sobre",
    ),
    "portuguese": (
        "ãçéáíóêõúâàôÁÉÓÇÃÍüÚÂÊ",
        _WESTERN,
        "de a o que e do da em um para com uma os no se na por mais as dos como mas ao das ou foi ele",
    ),
    "swedish": (
        "äöåÅÖÄé",
        _WESTERN,
        "och i att en som det av den till inte med de har ett om var jag men ett sig vid kan eller under ut ska",
    ),
    "danish": (
        "åøæÅØÆé",
        _WESTERN,
        "og i at det er en til af den for ikke der de med som et har om var jeg kan men sig ved eller fra",
    ),
    "finnish": (
        "äöåÄÖ",
        _WESTERN,
        "ja on ei se oli joka ovat mutta tai kun niin ole kuin voi sen jos vain",
    ),
    "icelandic": ("áíðéóúþýæöÁÍÞÉÓÚÖ", _WESTERN, "og er sem til um en ekki hann var fyrir en eru hafa af"),
    "dutch": (
        "ëéïèüöóáê",
        _WESTERN,
        "de het een en van in is dat op te zijn met voor niet aan er om ook als dan bij of uit naar maar",
    ),
    "english": (
        "éïèêöüñçáà",
        _WESTERN,
        "the of and to in a is that for it as was with be by on not he his but at are this have from or had an which",
    ),
    "polish": (
        "ąęłóśżćńźŚŁŻĆ",
        _CENTRAL,
        "w i na z do nie o to jest po jak za od przez dla lub oraz ale tak tym ich czy co ma jego",
    ),
    "czech": (
        "íáéýěřčžšůúťďňóČŠŘŽÚÁ",
        _CENTRAL,
        "a v se na je s z do to o k ale jako za by pro nebo ve po tak od jeho co jsou jsem",
    ),
    "slovak": (
        "áíéýčžšúťôľňďóäŕĺČŠŽÚĽ",
        _CENTRAL,
        "a v sa na je s z do to o k ako za by pre alebo vo po tak od jeho ale",
    ),
    "hungarian": (
        "áéöóüőíúűÁÉÖŐÓÚ",
        _CENTRAL,
        "a az egy nem is hogy van meg ez volt de vagy csak ha el mint ki nagy minden ezt azt",
    ),
    "slovene": ("čšžČŠŽćđ", _CENTRAL, "je in v na se da za so ki z ne od kot pa po bi tudi ali pri ter"),
    "croatian": ("čšžćđČŠŽĆĐ", _CENTRAL, "je i u na se da za su od s ne koji ili kao po iz bi biti što to"),
    "romanian": (
        "ăîșțşţâÎȘȚŞŢÂ",
        "cp1250 iso8859_16 iso8859_2 mac_romanian cp852",
        "de a la cu pe un nu din sunt este o care mai se ce prin pentru sau fi ca in lui",
    ),
    "turkish": (
        "ıüşğçöİÜŞÇÖâ",
        "cp1254 iso8859_9 mac_turkish cp857",
        "ve bir bu da de ne ile olarak daha gibi en o olan sonra kadar ben var her ya veya",
    ),
    "lithuanian": (
        "ėųšžįąūęčŠŽČĖ",
        _BALTIC,
        "ir yra kad su tai bet ar buvo kaip nuo jo per apie po dar tik kurie",
    ),
    "latvian": ("āīēšūņļžčģķŠĀĪĒŽ", _BALTIC, "un ir ar par no kas uz lai bet tas ka nav vai ja pie"),
    "estonian": ("äõüöšžÄÕÜÖ", f"{_BALTIC} cp1252", "ja on ei et see oma kui mis aga ka oli ning seda selle siis"),
    "vietnamese": (
        "đàáưâạảôơêăóíã\u0323\u0301\u0300\u0309\u0303ùúòìõĐÁ",
        "cp1258",
        "trong cho khi ra con ta anh theo sau sao qua nam",
    ),
    "russian": ("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё", _CYRILLIC, ""),
    "ukrainian": ("оаніиртвекслпдмуязьбгчйїжхцшюєщфґ", "cp1251 koi8_u mac_cyrillic iso8859_5 cp866", ""),
    "bulgarian": ("аоиентрсвлкдпмзгяъубчцйжщхшюфь", _CYRILLIC, ""),
    "serbian": ("аиоенрсутјквдмплгзбшчцжћњљхђфџ", "cp1251 iso8859_5 mac_cyrillic", ""),
    "greek": ("αοιετσνηυρπκλμςόίάέγδήωθχύφώβξζψϊϋΐΰ", "cp1253 iso8859_7 mac_greek cp737", ""),
    "hebrew": ("יוהלרבתמאשנעםדקחפסכגטצןזךףץ", "cp1255 iso8859_8", ""),
    "arabic": ("اليمونرتبةعدسفهكقأحجشطصىخإذزئثغضظءؤآپچگیک", "cp1256 iso8859_6", ""),
    "thai": ("านรกอเงมยลวดทส่้ตะปิคัหีแจ็พชขใไโผูุธบถซณญื์ึำษฐฉฟฎฏฝภศ", "cp874 iso8859_11", ""),
}
LANGUAGES: Mapping[str, LanguageProfile] = {
    name: LanguageProfile(letters, tuple(encodings.split()), frozenset(words.split()))
    for name, (letters, encodings, words) in _ROWS.items()
}

#: Encodings of several bytes per character, and their escape sequences if they have these.
MULTIBYTE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
#: Common characters of Japanese, simplified and traditional Chinese, and Korean.
KANJI = frozenset(
    "日一人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食車"
    "何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体田主題意不作用度強公持野以思家世多正安院心界"
    "教文元重近考画海売知道集別物使品計死特私始朝運終台広住無真有口少町料工建空急止送切転研足究楽起着店病質待試族銀早映親験英医仕去味"
    "写字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走秋夏習駅旅服夕借都市首文的関対性成政経済国内法保全取引次連絡合予定書類利用者"
)
SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点"
    "正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿"
    "原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德"
    "资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交"
)
TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去"
    "法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點"
    "正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒"
    "原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德"
    "資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交"
)
HANGUL = frozenset(
    "이다는을의에가고하지로기사한리도인은를대나자서시어라해정있과아수부여만들주그일동보장전국원상구제조스우오소성안선공학경연니신요면문것비"
    "화무관세생적으했습할년월간회당모두중위된되며등유트계미영방식말개물교없때와더각내금터분실건행러거용체진처음산명양"
)
