package armtemplate

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

func init() {
	register(map[string]function{
		"utcNow":            {0, 1, (*arguments).utcNow},
		"newGuid":           {0, 0, (*arguments).newGUID},
		"dateTimeAdd":       {2, 3, (*arguments).dateAdd},
		"dateTimeToEpoch":   {1, 1, (*arguments).toEpoch},
		"dateTimeFromEpoch": {1, 1, (*arguments).fromEpoch},
	})
}

func (a *arguments) utcNow() (value, error) {
	if !a.f.defaults {
		return nil, a.fail("it can be used only in the default value of a parameter")
	}
	form := "yyyyMMddTHHmmssZ"
	if a.has(0) {
		var err error
		if form, err = a.text(0); err != nil {
			return nil, err
		}
	}
	return a.date(a.e.d.env.Time, form)
}

func (a *arguments) newGUID() (value, error) {
	if !a.f.defaults || a.e.d.env.NewGUID == nil {
		return nil, a.fail("it can be used only in the default value of a parameter")
	}
	return text(a.e.d.env.NewGUID()), nil
}

// layouts are the forms of dates that are read.
var layouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05Z", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly, "20060102T150405Z"}

func (a *arguments) readDate(i int) (time.Time, error) {
	s, err := a.text(i)
	if err != nil {
		return time.Time{}, err
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, a.fail("'%s' is not a date like 2024-05-31T12:00:00Z", clip(s))
}

func (a *arguments) dateAdd() (value, error) {
	t, err := a.readDate(0)
	if err != nil {
		return nil, err
	}
	duration, err := a.text(1)
	if err != nil {
		return nil, err
	}
	if t, err = a.after(t, duration); err != nil {
		return nil, err
	}
	form := "u"
	if a.has(2) {
		if form, err = a.text(2); err != nil {
			return nil, err
		}
	}
	return a.date(t, form)
}

// duration is one of ISO 8601.
var duration = regexp.MustCompile(`^(-)?P(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?(T(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?$`)

func (a *arguments) after(t time.Time, s string) (time.Time, error) {
	m := duration.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return t, a.fail("'%s' is not a duration like P1DT2H", clip(s))
	}
	n := make([]int, len(m))
	for i, digits := range m {
		n[i], _ = strconv.Atoi(digits) // "" and what is no number is 0
		if m[1] != "" {
			n[i] = -n[i]
		}
	}
	return t.AddDate(n[2], n[3], 7*n[4]+n[5]).
		Add(time.Duration(n[7])*time.Hour + time.Duration(n[8])*time.Minute + time.Duration(n[9])*time.Second), nil
}

func (a *arguments) toEpoch() (value, error) {
	t, err := a.readDate(0)
	return number(t.Unix()), err
}

func (a *arguments) fromEpoch() (value, error) {
	n, err := a.number(0)
	if err != nil {
		return nil, err
	}
	if n < -62135596800 || n > 253402300799 {
		return nil, a.fail("%d is not in the years 1 to 9999", n)
	}
	return a.date(time.Unix(n, 0), "yyyy-MM-ddTHH:mm:ssZ")
}

// standardDates are .NET's one-letter forms of dates, in its custom ones.
var standardDates = map[string]string{
	"d": "MM/dd/yyyy", "D": "dddd, dd MMMM yyyy", "t": "HH:mm", "T": "HH:mm:ss", "g": "MM/dd/yyyy HH:mm", "G": "MM/dd/yyyy HH:mm:ss",
	"f": "dddd, dd MMMM yyyy HH:mm", "F": "dddd, dd MMMM yyyy HH:mm:ss", "m": "MMMM dd", "M": "MMMM dd", "y": "yyyy MMMM", "Y": "yyyy MMMM",
	"o": "yyyy-MM-ddTHH:mm:ss.fffffffZ", "O": "yyyy-MM-ddTHH:mm:ss.fffffffZ", "r": "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
	"R": "ddd, dd MMM yyyy HH:mm:ss 'GMT'", "s": "yyyy-MM-ddTHH:mm:ss", "u": "yyyy-MM-dd HH:mm:ssZ",
}

// dateParts are the runs of a letter in .NET's custom forms of dates, as layouts.
var dateParts = map[string]string{
	"yyyy": "2006", "yy": "06", "MMMM": "January", "MMM": "Jan", "MM": "01", "M": "1", "dddd": "Monday", "ddd": "Mon", "dd": "02", "d": "2",
	"HH": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5", "tt": "PM", "K": "Z07:00", "zzz": "-07:00",
}

// date writes t in a form of .NET.
func (a *arguments) date(t time.Time, form string) (value, error) {
	t = t.UTC()
	if long := standardDates[form]; long != "" {
		form = long
	}
	if len(form) > 100 {
		return nil, a.fail("the form '%s' of dates is too long", clip(form))
	}
	var b strings.Builder
	for i := 0; i < len(form); {
		c := form[i]
		run := len(form[i:]) - len(strings.TrimLeft(form[i:], string(rune(c))))
		part := form[i : i+run]
		switch {
		case c == '\'' || c == '"':
			end := strings.IndexByte(form[i+1:], c)
			if end < 0 {
				return nil, a.fail("the form '%s' of dates has a quote that does not end", form)
			}
			b.WriteString(form[i+1 : i+1+end])
			i += end + 2
			continue
		case c == '\\' && i+1 < len(form):
			b.WriteByte(form[i+1])
			i += 2
			continue
		case c == 'f' && run <= 7:
			b.WriteString(t.Format("0." + strings.Repeat("0", run))[2:])
		case c == 'H' && run == 1:
			b.WriteString(strconv.Itoa(t.Hour()))
		case dateParts[part] != "":
			b.WriteString(t.Format(dateParts[part]))
		case ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') && c != 'T' && c != 'Z':
			return nil, a.fail("the form '%s' of dates has '%s', which is not offered", form, part)
		default:
			b.WriteString(part)
		}
		i += run
	}
	return a.made(b.String())
}
