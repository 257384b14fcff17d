"""Answers to IFEval's prompts to compare two implementations: some follow an instruction, some just miss it, some are
made of nothing but what rules stumble over. The same ones each time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

LANGUAGES = {
    "ar": "هذه إجابة قصيرة عن السؤال. نأمل أن تكون مفيدة لكم.",
    "bg": "Това е кратък отговор на въпроса. Надяваме се да е полезен.",
    "bn": "এটি প্রশ্নের একটি সংক্ষিপ্ত উত্তর। আশা করি এটি কাজে লাগবে।",
    "de": "Das ist eine kurze Antwort auf die Frage. Hoffentlich hilft sie weiter.",
    "fa": "این یک پاسخ کوتاه به پرسش است. امیدوارم که سودمند باشد.",
    "fi": "Tämä on lyhyt vastaus kysymykseen. Toivottavasti siitä on hyötyä.",
    "gu": "આ પ્રશ્નનો ટૂંકો જવાબ છે. આશા છે કે તે ઉપયોગી થશે.",
    "hi": "यह प्रश्न का एक छोटा उत्तर है। आशा है कि यह उपयोगी होगा।",
    "it": "Questa è una breve risposta alla domanda. Speriamo che sia utile.",
    "kn": "ಇದು ಪ್ರಶ್ನೆಗೆ ಒಂದು ಸಣ್ಣ ಉತ್ತರ. ಇದು ಉಪಯುಕ್ತವಾಗಲಿ ಎಂದು ಆಶಿಸುತ್ತೇವೆ.",
    "ko": "이것은 질문에 대한 짧은 대답입니다. 도움이 되기를 바랍니다.",
    "mr": "हे प्रश्नाचे एक छोटे उत्तर आहे. ते उपयोगी पडेल अशी आशा आहे.",
    "ne": "यो प्रश्नको छोटो उत्तर हो। यो उपयोगी हुनेछ भन्ने आशा छ।",
    "pa": "ਇਹ ਸਵਾਲ ਦਾ ਇੱਕ ਛੋਟਾ ਜਵਾਬ ਹੈ। ਉਮੀਦ ਹੈ ਕਿ ਇਹ ਕੰਮ ਆਵੇਗਾ।",
    "pt": "Esta é uma resposta curta à pergunta. Esperamos que seja útil para você.",
    "ru": "Это короткий ответ на вопрос. Надеемся, что он будет полезен.",
    "sw": "Hili ni jibu fupi la swali hilo. Tunatumaini litakuwa na manufaa kwenu.",
    "ta": "இது கேள்விக்கான ஒரு சிறிய பதில். இது பயனுள்ளதாக இருக்கும் என நம்புகிறோம்.",
    "te": "ఇది ప్రశ్నకు ఒక చిన్న సమాధానం. ఇది ఉపయోగపడుతుందని ఆశిస్తున్నాము.",
    "th": "นี่คือคำตอบสั้น ๆ สำหรับคำถาม หวังว่าจะเป็นประโยชน์",
    "ur": "یہ سوال کا ایک مختصر جواب ہے۔ امید ہے کہ یہ مفید ہوگا۔",
    "vi": "Đây là một câu trả lời ngắn cho câu hỏi. Hy vọng nó sẽ hữu ích.",
}
PLAIN = "The quick answer is that people like simple things and they tell their friends about them"
_WORDS = ("we", "NASA", "I", "U.S.", "Mr.", "Smith", "e.g.", "cats", "3.14", "don't", "state-of-the-art", "naïve")
_WORDS += ("İstanbul", "ß", "Ünder_score", "A.M.", "HTTP2", "½", "東京")
_MARKS = (
    *("*", "**", "***", "******", "-", "--", "\n", "\n\n", "\n \n", " ", "  ", "\t", "\r\n", "\x0b", "\u2028", "\xa0"),
    *("[x]", "[", "]", "<<", ">>", "<<a>>", "P.S.", "p. s.", "P.P.S", "p. p.s", "Section 1", "SECTION\n2", "Day 3"),
    *('"', "'", ".", "!", "?", "...", ",", "，", "1.", "```", "{}", "# ", "My answer is yes.", "*b*", "**c**", "\n* d"),
    *("\n- e", "\n*\n", "“", "”", ")", "."),
)


def answers(prompt: str, instructions: list[tuple[str, Mapping[str, Any]]], seed: str) -> Iterator[str]:
    """About forty texts for one prompt."""
    rng = random.Random(seed)
    kept = [text for kind, arguments in instructions for text in near(kind, arguments, prompt, rng)]
    yield from (prompt, prompt.upper(), prompt.lower(), PLAIN + ".", (PLAIN + ".").upper(), PLAIN.lower(), "", " \n ")
    yield from kept
    joined = "\n\n".join(rng.sample(kept, min(3, len(kept))) or [prompt])
    yield from (joined, f"Sure, here it is:\n{joined}\nIs that all?", f'"{joined}"', f"```json\n{joined}\n```")
    yield from (joined[: rng.randrange(len(joined) + 1)], f"**{joined}**", joined.replace("\n", "\n* "))
    yield from (joined.upper(), joined.lower(), joined.replace(" ", "\n"), joined[::-1], f"{prompt}\n\n{joined}")
    yield rng.choice(list(LANGUAGES.values()))
    yield rng.choice(list(LANGUAGES.values())) + " " + PLAIN
    for length in (3, 8, 20, 60, 200):
        yield _soup(rng, length, instructions)


def near(kind: str, arguments: Mapping[str, Any], prompt: str, rng: random.Random) -> list[str]:
    """Texts that follow an instruction, and texts that just miss it."""
    many = [max(0, n + more) for n in _counts(arguments) for more in (-1, 0, 1)]
    made = {
        "keywords:existence": lambda: _few(arguments["keywords"]),
        "keywords:forbidden_words": lambda: [
            *arguments["forbidden_words"],
            f"x{arguments['forbidden_words'][0]}y",
            PLAIN,
        ],
        "keywords:frequency": lambda: [f"{arguments['keyword']} {PLAIN}. " * n + "End." for n in many],
        "keywords:letter_frequency": lambda: [arguments["letter"].upper() * n + " 123" for n in many],
        "language:response_language": lambda: [LANGUAGES[arguments["language"]], PLAIN, "123 456", "."],
        "length_constraints:number_sentences": lambda: [
            text
            for n in many
            for text in (f"{PLAIN}. " * n, "Dr. No said so! Why? " * (n // 2), "It is 3.5 e.g. U.S. A. " * n)
        ],
        "length_constraints:number_words": lambda: [
            text for n in many for text in ("word " * n, "it's " * (n // 2), "a_b " * n)
        ],
        "length_constraints:number_paragraphs": lambda: [
            text
            for n in many
            for text in ("\n***\n".join([PLAIN] * n), "***".join(["a"] * n) + "***", "\n\n".join(["a"] * n))
        ],
        "length_constraints:nth_paragraph_first_word": lambda: _paragraphs(arguments),
        "detectable_content:number_placeholders": lambda: ["Dear [name], [a b]\n" * n + "[" for n in {*many, 20}],
        "detectable_content:postscript": lambda: [
            f"{PLAIN}\n{mark} More." for mark in ("P.S.", "P.P.S", "P.P.S.", "P. S.", "PS", "p. p. s")
        ],
        "detectable_format:number_bullet_lists": lambda: [
            text
            for n in many
            for text in ("* point\n" * n, "- point\n" * n, "\n\n  *point" * n, "*\n" * n, "** b\n" * n, "--- \n" * n)
        ],
        "detectable_format:constrained_response": lambda: [
            "My answer is no.",
            "My answer is no",
            "I say: My answer is maybe. So.",
        ],
        "detectable_format:number_highlighted_sections": lambda: [
            text
            for n in many
            for text in ("*a* " * n, "**a** " * (n // 2), "* a\n" * n, "** " * n, "***a*** " * (n // 3))
        ],
        "detectable_format:multiple_sections": lambda: [
            text
            for n in many
            for text in (f"{arguments['section_spliter']} 1\ntext\n" * n, f"{arguments['section_spliter']}\n\n1" * n)
        ],
        "detectable_format:json_format": lambda: [
            *(
                '{"a": 1}',
                '```json\n{"a": [1, 2]}\n```',
                "```\n[]\n```",
                "{'a': 1}",
                '{"a": 1,}',
                "Here: {}",
                "NaN",
                "12",
            ),
            *("```JSON {}```", "``` json\n{}\n```", '"text"'),
        ],
        "detectable_format:title": lambda: [
            "<<A title>>\ntext",
            "<< >>",
            "<<>>",
            "<<<>>>",
            "<a>",
            "<<a\nb>>",
            "<<a>> <<b>>",
            "<<a>>>",
        ],
        "combination:two_responses": lambda: [
            *(
                "one\n******\ntwo",
                "one ****** one",
                "******one******two******",
                "a******b******c",
                "a************b",
                "a*******b",
            ),
        ],
        "combination:repeat_prompt": lambda: [
            f"{arguments['prompt_to_repeat']}\nSo.",
            f"  {arguments['prompt_to_repeat'].upper()}",
            f"Well. {prompt}",
        ],
        "startend:end_checker": lambda: [
            f'"{PLAIN}. {arguments["end_phrase"]}"',
            arguments["end_phrase"].upper(),
            f"{arguments['end_phrase']} So.",
        ],
        "startend:quotation": lambda: [f'"{PLAIN}"', f' "{PLAIN}"\n', '"', '""', f"“{PLAIN}”", f'"{PLAIN}'],
        "change_case:capital_word_frequency": lambda: [
            text for n in many for text in ("NASA and " * n, "A-B. U.S. " * n, "I'M " * n, "THE END. " * n)
        ],
        "change_case:english_capital": lambda: [PLAIN.upper(), PLAIN, "123", LANGUAGES["de"].upper(), "ÄÖ ÉA"],
        "change_case:english_lowercase": lambda: [PLAIN.lower(), PLAIN, "123", LANGUAGES["fi"].lower(), "éa öü"],
        "punctuation:no_comma": lambda: [PLAIN, f"{PLAIN}, yes", "a，b、c"],
    }
    return [text for text in made[kind]() if len(text) < 20_000]


def _counts(arguments: Mapping[str, Any]) -> list[int]:
    return [value for value in arguments.values() if isinstance(value, int)]


def _few(words: list[str]) -> list[str]:
    return [" ".join(words), " ".join(words).upper(), " ".join(words[1:]), "".join(f"x{word}y" for word in words)]


def _paragraphs(arguments: Mapping[str, Any]) -> list[str]:
    count, number, word = (arguments[name] for name in ("num_paragraphs", "nth_paragraph", "first_word"))
    parts = ["Some text."] * count
    parts[number - 1] = f"'{word.title()}, and more"
    good = "\n\n".join(parts)
    return [
        good,
        f"\n\n{good}",
        good + "\n\nmore",
        good.replace("\n\n", "\n"),
        good.replace(word.title(), f'"{word}"'),
        "\n\n\n".join(parts),
    ]


def _soup(rng: random.Random, length: int, instructions: list[tuple[str, Mapping[str, Any]]]) -> str:
    own = [str(value) for _, arguments in instructions for value in arguments.values() if isinstance(value, str)]
    own += [
        word
        for _, arguments in instructions
        for value in arguments.values()
        if isinstance(value, list)
        for word in value
    ]
    pool = [*_MARKS, *_WORDS, *PLAIN.split(), *(text for text in own if len(text) < 40)]
    return "".join(rng.choice(pool) + rng.choice(("", "", " ")) for _ in range(length))
