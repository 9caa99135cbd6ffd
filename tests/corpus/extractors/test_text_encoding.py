"""Encodings: texts of many languages are read right or refused, and a guess that is not sure is declared."""

from __future__ import annotations

import codecs

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.extractors.text_encoding import decode_text, require_encoding, to_utf8
from nearfield.errors import InputError

TEXTS = {
    "german": "Größe und Straße: Über den Fluß führt eine Brücke.\n" * 4,
    "italian": "Il museo è aperto tutti i giorni, tranne il martedì. All\u2019ingresso chiedete la pianta delle sale: "
    "è gratuita. I ragazzi non pagano, perché così è più facile.\n",
    "swedish": "Museet är öppet alla dagar utom tisdagar. Vid ingången får ni en karta över salarna, den är gratis.\n",
    "french": "Les élèves étaient déjà arrivés à l'école, où le maître répétait la leçon de géographie à voix haute.\n",
    "spanish": "El año pasado la señora Muñoz compró un pequeño jardín en Córdoba; después plantó allí más árboles.\n",
    "portuguese": "A reunião não começou às nove, porque o avião de São Paulo atrasou e ninguém atendeu às ligações.\n",
    "polish": "Zażółć gęślą jaźń. Następne posiedzenie odbędzie się w środę o dziewiątej w siedzibie spółki.\n",
    "czech": "Příští schůze se koná v pondělí v devět hodin ráno v sídle společnosti, a všichni jsou zváni.\n",
    "hungarian": "A következő ülés hétfőn reggel kilenc órakor lesz a társaság székhelyén, és mindenkit várunk.\n",
    "russian": "Следующее заседание состоится в понедельник в девять часов утра в главном офисе компании.\n",
    "ukrainian": "Наступне засідання відбудеться в понеділок о дев'ятій годині ранку в головному офісі компанії.\n",
    "greek": "Η επόμενη συνεδρίαση θα γίνει τη Δευτέρα στις εννέα το πρωί στα γραφεία της εταιρείας.\n",
    "hebrew": "זהו מסמך בעברית. הישיבה הבאה תתקיים ביום שני בשעה תשע בבוקר במשרד הראשי של החברה בתל אביב.\n",
    "arabic": "هذه وثيقة باللغة العربية. يعقد الاجتماع القادم يوم الاثنين في الساعة التاسعة صباحا\n",
    "thai": "การประชุมครั้งต่อไปจะจัดขึ้นที่เชียงใหม่เดือนหน้า\n",
    "japanese": "これは日本語の文書です。東京は日本の首都であり、大きな都市です。\n",
    "chinese": "下一次会议将在星期一上午九点在公司总部举行，请大家准时参加。\n",
    "taiwanese": "下一次會議將在星期一上午九點在公司總部舉行，請大家準時參加。\n",
    "korean": "다음 회의는 월요일 오전 아홉 시에 본사에서 열립니다. 모두 참석해 주시기 바랍니다.\n",
}
ENCODINGS = {
    "german": "cp1252 mac_roman cp850 cp437",
    "italian": "cp1252 mac_roman",
    "swedish": "cp1252 mac_roman cp850",
    "french": "cp1252 mac_roman cp850",
    "spanish": "cp1252 mac_roman cp850",
    "portuguese": "cp1252 mac_roman cp850",
    "polish": "cp1250 iso8859_2 cp852",
    "czech": "cp1250 iso8859_2 cp852 mac_latin2",
    "hungarian": "cp1250 iso8859_2",
    "russian": "koi8_r cp1251 cp866 iso8859_5 mac_cyrillic",
    "ukrainian": "koi8_u cp1251",
    "greek": "cp1253 iso8859_7 cp737",
    "hebrew": "cp1255 iso8859_8",
    "arabic": "cp1256 iso8859_6",
    "thai": "cp874",
    "japanese": "iso2022_jp cp932 euc_jp",
    "chinese": "gb18030",
    "taiwanese": "big5",
    "korean": "cp949 iso2022_kr",
}
CASES = [(name, encoding) for name in TEXTS for encoding in f"{ENCODINGS[name]} utf-16-le utf-16-be".split()]


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_texts_of_many_languages(language: str, encoding: str) -> None:
    decoded = decode_text(TEXTS[language].encode(encoding), "a.txt")
    assert decoded.text == TEXTS[language]


@pytest.mark.parametrize("encoding", ["cp1251", "cp866", "iso8859_5"])
def test_capitals_alone(encoding: str) -> None:
    text = "ДОГОВОР ПОСТАВКИ ТОВАРОВ И УСЛУГ"
    assert decode_text(text.encode(encoding), "a.txt").text == text


def extract(data: bytes) -> Document:
    document: Document = REGISTRY.load("text")().extract(data, "a.txt")
    return document


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("café\n", "cp1252"),
        ("Grüße\n", "latin-1"),
        ("naïve", "cp1252"),
        ("Price: 5 € (about £4)", "cp1252"),
        ("Привет", "koi8_r"),
        ("Temperature 20 °C ± 1 µm, § 5", "cp1252"),
    ],
)
def test_short_texts_are_right_and_declared_as_guesses(text: str, encoding: str) -> None:
    document = extract(text.encode(encoding))
    assert document.text == text
    (loss,) = document.losses
    assert "which was guessed (" in loss.reason and "option encoding" in loss.advice


def test_a_sure_guess_is_no_loss() -> None:
    for language, encoding in (("russian", "koi8_r"), ("german", "mac_roman"), ("italian", "cp1252")):
        assert extract(TEXTS[language].encode(encoding) * 2).losses == ()
    assert extract(TEXTS["polish"].encode()).losses == ()


def test_ascii_is_not_mistaken_for_an_encoding_with_escapes() -> None:
    for text in ("\x1b[31mred\x1b[0m text", "\x1b(B\x1b[m a line of top", "\x1b$Ba", "price ~{ab~} end ~{"):
        assert extract(text.encode()).text == text


def test_large_files_are_recognised_by_a_sample() -> None:
    text = "plain ascii line\n" * 50_000 + TEXTS["russian"] * 500
    decoded = decode_text(text.encode("koi8_r"), "a.txt")
    assert decoded.text == text and decoded.sure


def test_an_encoding_that_is_stated_decides() -> None:
    data = "Привет".encode("cp866")
    assert to_utf8(data, "cp866") == codecs.BOM_UTF8 + "Привет".encode()
    assert to_utf8("Привет".encode(), "cp866") == "Привет".encode()
    assert require_encoding("koi8-r") == "koi8-r"
    for wrong in ("base64", "utf-9", "", "a\0b"):
        with pytest.raises(InputError, match="no encoding"):
            require_encoding(wrong)


# -- texts that are partly UTF-8 ---------------------------------------------------------------------------------------


def test_lines_of_chinese_that_are_utf8_by_accident() -> None:
    lines = [
        "目前一",
        "这是一个很长的句子，说明文件的内容。",
        "第二章",
        "会议将在星期五上午举行，请大家准时参加。",
    ] * 20
    assert "目前一".encode("gbk").decode().isalpha()  # these bytes are valid UTF-8
    decoded = decode_text("\n".join(lines).encode("gbk"), "a.txt")
    assert decoded.text.split("\n") == lines


def test_a_text_of_two_encodings_and_one_that_ends_within_a_letter() -> None:
    first, second = "Die Fähre fährt über Nacht.", "Grüße aus dem Büro"
    decoded = decode_text(f"{first}\n".encode() + second.encode("cp1252"), "a.txt")
    assert decoded.text == f"{first}\n{second}" and not decoded.sure
    cut = decode_text(f"{first}\nGrü".encode()[:-1], "a.txt")
    assert cut.text == f"{first}\nGr\ufffd" and cut.damaged == 1
    assert decode_text("Un café".encode("latin-1"), "a.txt").text == "Un café"
    declared = decode_text(b"abc \x81 def", "a.html", "cp1252")
    assert declared.text == "abc \ufffd def" and declared.damaged == 1
