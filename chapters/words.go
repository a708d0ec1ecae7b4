package chapters

// Words are what the player says by itself.
type Words struct {
	Question, MeantToFail, NotShown, Line, NoLine, NotRun, Failed, Source, Cites string

	Contents, Steps, Exercises, Passed, Started, Step, Of, Press, Predict, Running, Evidence, NotYet, Only string
	Next, Back, Run, Path, Language, Hint, Quit, Open, Close, Scroll, Menu                                 string
}

var words = map[Lang]Words{
	English: {
		Question: "Before you look:", MeantToFail: "this is meant to fail", NotShown: "! not shown:", Line: "→ line %d", NoLine: "→ no such line",
		NotRun: "! not run: this host has no", Failed: "it failed, as it was meant to: status %d", Source: "source:", Cites: "see:",
	},
	Chinese: {
		Question: "先想一想：", MeantToFail: "这一步就是要失败的", NotShown: "! 没有看到：", Line: "→ 第 %d 行", NoLine: "→ 没有这样的行",
		NotRun: "! 没有运行：这台主机没有", Failed: "如预期的那样失败了：状态 %d", Source: "源码：", Cites: "参见：",
	},
}

// In are the words of a language.
func In(lang Lang) Words { return words[lang] }
