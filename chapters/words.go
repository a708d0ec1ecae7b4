package chapters

import "cmp"

// Words are what the player says by itself, in a language.
type Words struct {
	// Of --plain and of the player.
	Question, MeantToFail, NotShown, Line, NoLine, NotRun, Failed, Source, Cites string

	// Of the player.
	Course, Exercises, Exercise, Level, Ready, After, Running, Before, Held, NoSource, NotHere, Small, TheEnd            string
	CheckIt, StartIt, Passed, OurSolution, Hint, Shell, NoHint, TakingAway, Done, Revived, DaemonGone, InYourShell, Then string

	// Names are those of an exercise's states and kinds, where they differ.
	Names map[string]string

	// Keys, by what they do.
	KeyOpen, KeyRun, KeyNext, KeyBack, KeyPath, KeyLanguage, KeySource, KeyHint, KeyContents, KeyQuit, KeyScroll, KeyClose, KeyStop,
	KeyStart, KeyCheck, KeyReset, KeyShell, KeySolution, KeyMore, KeyAgain, KeyXray, KeyHelp, KeyChoose string

	// What the keys are for, in a few words more.
	HelpEnter, HelpNext, HelpBack, HelpScroll, HelpContents, HelpPath, HelpLanguage, HelpAgain, HelpSource, HelpXray, HelpStop, HelpQuit,
	HelpShell, HelpHint, HelpReset, HelpSolution string
}

var words = map[Lang]Words{
	English: {
		Question: "Before you look: ", MeantToFail: "this is meant to fail", NotShown: "! not shown:", Line: "→ line %d", NoLine: "→ no such line",
		NotRun: "! not run: this host has no", Failed: "it failed, as it was meant to: status %d", Source: "source: ", Cites: "see: ",

		Course: "docker2013: the course", Exercises: "On an exercise", Exercise: "Exercise", Level: "level %d", Ready: "enter runs it",
		After: "What was to be seen", Running: "running…", Before: "first, what comes before it: %s", Held: "✓ all of it is there", NoSource: "this step names no source",
		NotHere: "not on this path", Small: "the window is too small", TheEnd: "This was the last page of the course.",
		CheckIt: "enter checks what you have done; e opens a shell with its variables", StartIt: "enter makes what it begins with", Passed: "✓ passed",
		OurSolution: "Our solution", Hint: "Hint", Shell: "A shell for %s; its folder is $W. exit brings you back to the course.", NoHint: "hints are for exercises; they come after the steps",
		TakingAway: "taking away what the chapter has made…", Done: "steps · exercises", InYourShell: "In your shell:", Then: "Then: ",
		Revived: "the daemon had ended: it was started again", DaemonGone: "the daemon doesn't answer any more: run this again, and it is started again",
		Names: map[string]string{},

		KeyOpen: "open", KeyRun: "run", KeyNext: "next", KeyBack: "back", KeyPath: "path", KeyLanguage: "中文", KeySource: "source", KeyHint: "hint",
		KeyContents: "contents", KeyQuit: "quit", KeyScroll: "scroll", KeyClose: "close", KeyStop: "stop it",
		KeyStart: "start", KeyCheck: "check", KeyReset: "reset", KeyShell: "shell", KeySolution: "solution", KeyMore: "more", KeyAgain: "again",
		KeyXray: "X-ray", KeyHelp: "keys", KeyChoose: "choose",

		HelpEnter: "go on: the rest of the page, then run it, then the next page", HelpNext: "the next page", HelpBack: "the page before",
		HelpScroll: "scroll; page up and down, home and end too", HelpContents: "the contents", HelpPath: "the other path: classic, modern, both",
		HelpLanguage: "中文", HelpAgain: "run the step again", HelpSource: "the lines of our source that did it",
		HelpXray: "X-ray: the system calls that make a container on this path", HelpStop: "stop what runs; close what lies over the page",
		HelpQuit: "quit; learn goes on where you left", HelpShell: "a shell in which to do it", HelpHint: "a hint that fits what you have done",
		HelpReset: "begin again", HelpSolution: "show our solution",
	},
	Chinese: {
		Question: "先想一想：", MeantToFail: "这一步就是要失败的", NotShown: "! 没有看到：", Line: "→ 第 %d 行", NoLine: "→ 没有这样的行",
		NotRun: "! 没有运行：这台主机没有", Failed: "如预期的那样失败了：状态 %d", Source: "源码：", Cites: "参见：",

		Course: "docker2013 课程", Exercises: "在练习页上", Exercise: "练习", Level: "难度 %d", Ready: "按回车运行",
		After: "看到了什么", Running: "正在运行……", Before: "先补上前面的一步：%s", Held: "✓ 证据都在", NoSource: "这一步没有指出源码",
		NotHere: "这条路径上没有这一步", Small: "窗口太小了", TheEnd: "这是课程的最后一页。",
		CheckIt: "按回车检查；按 e 打开一个带着所需变量的 shell", StartIt: "按回车布置练习", Passed: "✓ 通过",
		OurSolution: "我们的解法", Hint: "提示", Shell: "%s 的 shell，它的目录是 $W。输入 exit 回到课程。", NoHint: "提示是给练习用的，练习在各步之后",
		TakingAway: "正在清理这一章留下的东西……", Done: "步骤 · 练习", InYourShell: "在你的 shell 里：", Then: "然后：",
		Revived: "守护进程已经退出，又重新启动了", DaemonGone: "守护进程不再应答：再运行一遍，就会重新启动它",
		Names: map[string]string{"new": "未开始", "started": "已开始", "passed": "已通过", "hunt": "寻找", "repair": "修复", "build": "搭建", "code": "编程"},

		KeyOpen: "打开", KeyRun: "运行", KeyNext: "下一页", KeyBack: "上一页", KeyPath: "路径", KeyLanguage: "English", KeySource: "源码", KeyHint: "提示",
		KeyContents: "目录", KeyQuit: "退出", KeyScroll: "滚动", KeyClose: "关闭", KeyStop: "停止",
		KeyStart: "布置", KeyCheck: "检查", KeyReset: "重来", KeyShell: "shell", KeySolution: "解法", KeyMore: "往下", KeyAgain: "再运行",
		KeyXray: "X 光", KeyHelp: "按键", KeyChoose: "选择",

		HelpEnter: "继续：先看完本页，再运行，再到下一页", HelpNext: "下一页", HelpBack: "上一页",
		HelpScroll: "滚动；PgUp、PgDn、Home、End 也行", HelpContents: "目录", HelpPath: "换路径：classic、modern、both（两条一起）",
		HelpLanguage: "English", HelpAgain: "再运行一遍这一步", HelpSource: "做这件事的源码",
		HelpXray: "X 光：在这条路径上造出一个容器的系统调用", HelpStop: "停止正在运行的；关掉盖在页面上的",
		HelpQuit: "退出；下次 learn 从这里继续", HelpShell: "打开一个做题用的 shell", HelpHint: "给一条与当前进展相符的提示",
		HelpReset: "重新开始", HelpSolution: "看我们的解法",
	},
}

// Name is the language's word for an exercise's state or kind.
func (w Words) Name(word string) string { return cmp.Or(w.Names[word], word) }

// In are the words of a language.
func In(lang Lang) Words { return words[lang] }
