package armtemplate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/jsontree"
)

const testSubscription = "11111111-1111-1111-1111-111111111111"

func testEnvironment() Environment {
	return Environment{
		Subscription: testSubscription, SubscriptionName: "Test", Tenant: "22222222-2222-2222-2222-222222222222",
		Group: &Group{Name: "rg", Location: "westus2", Tags: map[string]string{"b": "2", "a": "1"}},
		Name:  "dep", Mode: "Incremental", Endpoint: "https://door.test/", StorageSuffix: "local.test",
		Time: time.Date(2024, 5, 7, 9, 3, 2, 123456700, time.UTC), NewGUID: func() string { return "33333333-3333-3333-3333-333333333333" },
	}
}

// bound is a deployment of the template with body, which lacks schema and version.
func bound(t *testing.T, body, parameters string) (*Deployment, error) {
	t.Helper()
	tpl, err := Parse([]byte(`{"$schema":"https://schema.test/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",` + body + `}`))
	if err != nil {
		return nil, err
	}
	var given *jsontree.Node
	if parameters != "" {
		if given, err = jsontree.Parse([]byte(parameters), jsontree.Limits{Bytes: MaxBytes, Depth: maxDepth}); err != nil {
			t.Fatal(err)
		}
	}
	return tpl.Bind(testEnvironment(), given)
}

func mustBind(t *testing.T, body, parameters string) *Deployment {
	t.Helper()
	d, err := bound(t, body, parameters)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// scene is a deployment in which the expressions of tables are evaluated.
func scene(t *testing.T) *evaluator {
	t.Helper()
	d := mustBind(t, `"parameters":{"p":{"type":"string"},"o":{"type":"object","defaultValue":{"Name":"n","list":[1,2]}}},
		"variables":{"v":"[concat(parameters('p'),'!')]","copy":[{"name":"turns","count":2,"input":"[concat('t', copyIndex('turns'))]"}],
			"loop":"[variables('loop')]"},
		"functions":[{"namespace":"my","members":{"twice":{"parameters":[{"name":"x","type":"int"}],"output":{"type":"int","value":"[mul(2, parameters('x'))]"}}}}],
		"resources":[{"type":"A.B/c","name":"one","apiVersion":"2024-01-01"}]`, `{"p":{"value":"given"}}`)
	return d.evaluator(nil)
}

// value of an expression as JSON, or "error: ...".
func evaluated(t *testing.T, expression string) string {
	t.Helper()
	e := scene(t)
	n := text(expression)
	n.Line, n.Column = 1, 1
	v, err := e.tree(frame{path: "x"}.at(n, "x"), n)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(v.Append(nil))
}

const inGroup = "/subscriptions/" + testSubscription + "/resourceGroups/rg"

var table = []struct{ in, want string }{
	{`plain`, `"plain"`},
	{`[[escaped]`, `"[escaped]"`},
	{`[no end`, `"[no end"`},
	{`['it''s']`, `"it's"`},
	{`[-5]`, `-5`},
	{`[parameters('P')]`, `"given"`},
	{`[variables('v')]`, `"given!"`},
	{`[variables('turns')[1]]`, `"t1"`},
	{`[variables('loop')]`, `error: refers to itself`},
	{`[variables('none')]`, `error: 'none' is not found`},
	{`[parameters('none')]`, `error: 'none' is not found`},
	{`[parameters('o').name]`, `"n"`},
	{`[parameters('o')['LIST'][1]]`, `2`},
	{`[parameters('o').nope]`, `error: property 'nope' doesn't exist, available properties are 'Name, list'`},
	{`[parameters('o').list[2]]`, `error: out of bounds`},
	{`[my.twice(21)]`, `42`},
	{`[my.thrice(21)]`, `error: defines no such function`},
	{`[nosuch(1)]`, `error: template function 'nosuch' is not valid`},
	{`[conct('a')]`, `error: did you mean 'concat'?`},
	{`[concat('a', 1, true())]`, `"a1True"`},
	{`[concat(createArray(1), createArray('b'))]`, `[1,"b"]`},
	{`[concat('a', createArray())]`, `error: argument 2 must be a string`},
	{`[format('{0}-{1:D3}-{{x}}-{0,4}', 'a', 7)]`, `"a-007-{x}-   a"`},
	{`[format('{2}', 'a')]`, `error: names no argument`},
	{`[format('{0:X}', 255)]`, `"FF"`},
	{`[toLower('AB')]`, `"ab"`},
	{`[toUpper('ab')]`, `"AB"`},
	{`[trim('  a ')]`, `"a"`},
	{`[base64('one')]`, `"b25l"`},
	{`[base64ToString('b25l')]`, `"one"`},
	{`[base64ToString('?')]`, `error: not text in base64`},
	{`[base64ToJson(base64('{"a":1}')).a]`, `1`},
	{`[dataUri('Hello')]`, `"data:text/plain;charset=utf8;base64,SGVsbG8="`},
	{`[dataUriToString('data:;base64,SGVsbG8=')]`, `"Hello"`},
	{`[dataUriToString('data:,a%20b')]`, `"a b"`},
	{`[uri('http://a.test/b/c', 'd/e')]`, `"http://a.test/b/d/e"`},
	{`[uri('http://a.test/b/', 'd')]`, `"http://a.test/b/d"`},
	{`[uriComponent('a b/c')]`, `"a%20b%2Fc"`},
	{`[uriComponentToString('a%20b%2Fc')]`, `"a b/c"`},
	{`[replace('aXbX', 'X', '--')]`, `"a--b--"`},
	{`[split('a,b;c', createArray(',', ';'))]`, `["a","b","c"]`},
	{`[split('a,b', ',')]`, `["a","b"]`},
	{`[join(createArray('a', 1), '-')]`, `"a-1"`},
	{`[substring('abcd', 1, 2)]`, `"bc"`},
	{`[substring('abcd', 2)]`, `"cd"`},
	{`[substring('abcd', 3, 2)]`, `error: not in a string of 4`},
	{`[padLeft(7, 3, '0')]`, `"007"`},
	{`[startsWith('Abc', 'aB')]`, `true`},
	{`[endsWith('abC', 'Bc')]`, `true`},
	{`[indexOf('tEst', 't')]`, `0`},
	{`[lastIndexOf('tEst', 'T')]`, `3`},
	{`[indexOf(createArray('a','b'), 'b')]`, `1`},
	{`[lastIndexOf(createArray('a','b','a'), 'a')]`, `2`},
	{`[string(createObject('a', 1))]`, `"{\"a\":1}"`},
	{`[string(true())]`, `"True"`},
	{`[json('{"a":[null]}')]`, `{"a":[null]}`},
	{`[json('{')]`, `error: not JSON`},
	{`[add(2, 3)]`, `5`},
	{`[add(9223372036854775807, 1)]`, `error: more than 64 bits`},
	{`[sub(2, 3)]`, `-1`},
	{`[mul(4, -3)]`, `-12`},
	{`[mul(9223372036854775807, 2)]`, `error: more than 64 bits`},
	{`[div(8, 3)]`, `2`},
	{`[div(8, 0)]`, `error: more than 64 bits`},
	{`[mod(7, 3)]`, `1`},
	{`[min(3, 1, 2)]`, `1`},
	{`[max(createArray(3, 1, 7))]`, `7`},
	{`[int('42')]`, `42`},
	{`[int('x')]`, `error: not a whole number`},
	{`[float('1.5')]`, `1.5`},
	{`[bool('true')]`, `true`},
	{`[bool(0)]`, `false`},
	{`[range(5, 3)]`, `[5,6,7]`},
	{`[range(0, 10001)]`, `error: 0 to 10000`},
	{`[equals(createObject('a', 1, 'b', 2), createObject('b', 2, 'A', 1))]`, `true`},
	{`[equals('a', 'A')]`, `false`},
	{`[less(1, 2)]`, `true`},
	{`[lessOrEquals('b', 'a')]`, `false`},
	{`[greater(2, 2)]`, `false`},
	{`[greaterOrEquals(2, 2)]`, `true`},
	{`[not(false())]`, `true`},
	{`[true()]`, `true`},
	{`[false()]`, `false`},
	{`[null()]`, `null`},
	{`[if(equals(1, 2), div(1, 0), 'else')]`, `"else"`},
	{`[if('x', 1, 2)]`, `error: neither true nor false`},
	{`[and(false(), equals(div(1, 0), 1))]`, `false`},
	{`[or(true(), equals(div(1, 0), 1))]`, `true`},
	{`[coalesce(null(), 'b', div(1, 0))]`, `"b"`},
	{`[length('äb')]`, `2`},
	{`[length(createObject('a', 1))]`, `1`},
	{`[empty('')]`, `true`},
	{`[empty(null())]`, `true`},
	{`[empty(createArray(1))]`, `false`},
	{`[contains('abc', 'bc')]`, `true`},
	{`[contains(createArray(1, 2), 2)]`, `true`},
	{`[contains(createObject('Key', 1), 'key')]`, `true`},
	{`[first('abc')]`, `"a"`},
	{`[last(createArray(1, 2))]`, `2`},
	{`[first(createArray())]`, `null`},
	{`[take(createArray(1, 2, 3), 2)]`, `[1,2]`},
	{`[take('abc', 9)]`, `"abc"`},
	{`[skip('abc', 1)]`, `"bc"`},
	{`[skip(createArray(1, 2, 3), 2)]`, `[3]`},
	{`[union(createArray(1, 2), createArray(2, 3))]`, `[1,2,3]`},
	{`[union(createObject('a', createObject('x', 1)), createObject('A', createObject('y', 2)))]`, `{"a":{"x":1,"y":2}}`},
	{`[intersection(createArray(1, 2, 3), createArray(3, 2))]`, `[2,3]`},
	{`[intersection(createObject('a', 1, 'b', 2), createObject('b', 2, 'a', 3))]`, `{"b":2}`},
	{`[array('a')]`, `["a"]`},
	{`[createArray('a', 1)]`, `["a",1]`},
	{`[createObject('a', 1, 'A', 2)]`, `{"a":2}`},
	{`[createObject('a')]`, `error: names and values in turn`},
	{`[items(createObject('b', 1, 'a', 2))]`, `[{"key":"a","value":2},{"key":"b","value":1}]`},
	{`[objectKeys(createObject('b', 1, 'a', 2))]`, `["a","b"]`},
	{`[flatten(createArray(createArray(1), createArray(2, 3)))]`, `[1,2,3]`},
	{`[shallowMerge(createArray(createObject('a', createObject('x', 1)), createObject('a', 2)))]`, `{"a":2}`},
	{`[tryGet(createObject('a', createArray(5)), 'a', 0)]`, `5`},
	{`[tryGet(createObject('a', 1), 'b', 'c')]`, `null`},
	{`[map(createArray(1, 2), lambda('x', mul(lambdaVariables('x'), 10)))]`, `[10,20]`},
	{`[map(createArray('a', 'b'), lambda('x', 'i', format('{0}{1}', lambdaVariables('x'), lambdaVariables('i'))))]`, `["a0","b1"]`},
	{`[filter(range(0, 5), lambda('n', equals(mod(lambdaVariables('n'), 2), 0)))]`, `[0,2,4]`},
	{`[reduce(range(1, 4), 0, lambda('sum', 'n', add(lambdaVariables('sum'), lambdaVariables('n'))))]`, `10`},
	{`[sort(createArray(3, 1, 2), lambda('a', 'b', less(lambdaVariables('a'), lambdaVariables('b'))))]`, `[1,2,3]`},
	{`[toObject(createArray('a', 'b'), lambda('x', lambdaVariables('x')), lambda('x', toUpper(lambdaVariables('x'))))]`, `{"a":"A","b":"B"}`},
	{`[groupBy(createArray('ab', 'ac', 'b'), lambda('x', first(lambdaVariables('x'))))]`, `{"a":["ab","ac"],"b":["b"]}`},
	{`[mapValues(createObject('a', 1), lambda('v', add(lambdaVariables('v'), 1)))]`, `{"a":2}`},
	{`[lambda('x', 1)]`, `error: only as an argument`},
	{`[lambdaVariables('x')]`, `error: 'x' is not defined here`},
	{`[uniqueString('test')]`, `"rbgf3xv4ufgzg"`},
	{`[guid('a', 'b')]`, `"2d796349-8c7e-55ec-9624-54ece82ed031"`},
	{`[utcNow()]`, `error: only in the default value`},
	{`[newGuid()]`, `error: only in the default value`},
	{`[dateTimeAdd('2024-01-31T00:00:00Z', 'P1DT2H', 'yyyy-MM-dd HH:mm')]`, `"2024-02-01 02:00"`},
	{`[dateTimeAdd('2024-01-31', '-PT1S')]`, `"2024-01-30 23:59:59Z"`},
	{`[dateTimeAdd('2024-01-31', '1 day')]`, `error: not a duration`},
	{`[dateTimeToEpoch('1970-01-02T00:00:00Z')]`, `86400`},
	{`[dateTimeFromEpoch(86400)]`, `"1970-01-02T00:00:00Z"`},
	{`[cidrSubnet('10.0.0.0/16', 24, 3)]`, `"10.0.3.0/24"`},
	{`[cidrSubnet('10.0.0.0/24', 24, 1)]`, `error: no subnet 1`},
	{`[cidrHost('10.0.0.0/24', 3)]`, `"10.0.0.4"`},
	{`[parseCidr('10.1.2.3/24').lastUsable]`, `"10.1.2.254"`},
	{`[copyIndex()]`, `error: only in a copy loop`},
	{`[resourceGroup().location]`, `"westus2"`},
	{`[resourceGroup().id]`, `"` + inGroup + `"`},
	{`[resourceGroup().tags]`, `{"a":"1","b":"2"}`},
	{`[subscription().subscriptionId]`, `"` + testSubscription + `"`},
	{`[tenant().tenantId]`, `"22222222-2222-2222-2222-222222222222"`},
	{`[deployment().name]`, `"dep"`},
	{`[environment().suffixes.storage]`, `"local.test"`},
	{`[resourceId('A.B/c', 'n')]`, `"` + inGroup + `/providers/A.B/c/n"`},
	{`[resourceId('other', 'A.B/c/d', 'n', 'm')]`, `"/subscriptions/` + testSubscription + `/resourceGroups/other/providers/A.B/c/n/d/m"`},
	{`[resourceId('44444444-4444-4444-4444-444444444444', 'other', 'A.B/c', 'n')]`, `"/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/other/providers/A.B/c/n"`},
	{`[resourceId('A.B/c', 'n', 'm')]`, `error: requires '1' resource name argument(s)`},
	{`[resourceId('AB', 'n')]`, `error: name no resource type`},
	{`[subscriptionResourceId('A.B/c', 'n')]`, `"/subscriptions/` + testSubscription + `/providers/A.B/c/n"`},
	{`[subscriptionResourceId('Microsoft.Resources/resourceGroups', 'n')]`, `"/subscriptions/` + testSubscription + `/resourceGroups/n"`},
	{`[tenantResourceId('A.B/c', 'n')]`, `"/providers/A.B/c/n"`},
	{`[extensionResourceId(resourceId('A.B/c', 'n'), 'D.E/f', 'm')]`, `"` + inGroup + `/providers/A.B/c/n/providers/D.E/f/m"`},
	{`[managementGroup()]`, `error: not offered here`},
	{`[managementGroupResourceId('A.B/c', 'n')]`, `error: not offered here`},
	{`[providers('A.B')]`, `error: not offered here`},
	{`[pickZones('A.B', 'c', 'westus2')]`, `[]`},
	{`[reference('one')]`, `error: known only while`},
	{`[reference('two')]`, `error: 'two' is not defined in the template`},
	{`[references('one')]`, `error: no symbolic name`},
	{`[resourceInfo('one')]`, `error: no symbolic name`},
	{`[listKeys('one', '2024-01-01')]`, `error: known only while`},
	{`[concat(]`, `error: does not parse at character 9`},
	{`[concat('a' 'b')]`, `error: a comma or a closing parenthesis is missing`},
	{`['a]`, `error: no closing quote`},
	{`[abc]`, `error: must be followed by its arguments`},
	{`[concat('a')x]`, `error: more than an expression`},
	{`[#]`, `error: not part of the language`},
	{`[length()]`, `error: takes 1 arguments, not 0`},
}

func TestFunctions(t *testing.T) {
	for _, c := range table {
		got := evaluated(t, c.in)
		if want, isError := strings.CutPrefix(c.want, "error: "); isError {
			if !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
				t.Errorf("%s: %s, want an error with %q", c.in, got, want)
			}
		} else if got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}

// Every function of the language is in the table.
func TestEveryFunctionIsTested(t *testing.T) {
	var all strings.Builder
	for _, c := range table {
		all.WriteString(strings.ToLower(c.in))
	}
	missing := slices.DeleteFunc(FunctionNames(), func(name string) bool { return strings.Contains(all.String(), name+"(") })
	if len(missing) > 0 {
		t.Errorf("not in the table: %v", missing)
	}
}

func TestDates(t *testing.T) {
	for form, want := range map[string]string{
		"": "20240507T090302Z", "d": "05/07/2024", "u": "2024-05-07 09:03:02Z", "yyyy-M-d H:m:s.fff": "2024-5-7 9:3:2.123",
		"o": "2024-05-07T09:03:02.1234567Z", "dddd 'of' MMM": "Tuesday of May", "R": "Tue, 07 May 2024 09:03:02 GMT",
	} {
		arg := "'" + strings.ReplaceAll(form, "'", "''") + "'"
		if form == "" {
			arg = ""
		}
		d := mustBind(t, `"parameters":{"now":{"type":"string","defaultValue":"[utcNow(`+arg+`)]"},"id":{"type":"string","defaultValue":"[newGuid()]"}},"resources":[]`, "")
		if got := d.values["now"].Text; got != want {
			t.Errorf("%q: %q, want %q", form, got, want)
		}
		if got := d.values["id"].Text; got != "33333333-3333-3333-3333-333333333333" {
			t.Error(got)
		}
	}
}

// Small templates cannot make large values or much work.
func TestLimits(t *testing.T) {
	double := `"a0":["x","x"]`
	for i := range 40 {
		double += `,"a` + itoa(i+1) + `":["[variables('a` + itoa(i) + `')]","[variables('a` + itoa(i) + `')]"]`
	}
	for name, body := range map[string]string{
		"doubling":  `"variables":{` + double + `},"resources":[],"outputs":{"o":{"type":"array","value":"[variables('a40')]"}}`,
		"long text": `"resources":[],"outputs":{"o":{"type":"string","value":"[reduce(range(0, 10000), 'abcdefgh', lambda('s', 'n', concat(lambdaVariables('s'), lambdaVariables('s'))))]"}}`,
		"nesting":   `"resources":[],"outputs":{"o":{"type":"array","value":"[reduce(range(0, 10000), createArray(), lambda('s', 'n', createArray(lambdaVariables('s'))))]"}}`,
		"work":      `"resources":[],"outputs":{"o":{"type":"array","value":"[map(range(0, 10000), lambda('x', length(map(range(0, 10000), lambda('y', 1)))))]"}}`,
		"deep":      `"resources":[],"outputs":{"o":{"type":"array","value":"[` + strings.Repeat("array(", 100) + `1` + strings.Repeat(")", 100) + `]"}}`,
		"resources": `"resources":[{"copy":{"name":"l","count":800},"type":"A.B/c","name":"[concat('n', copyIndex())]","apiVersion":"2024-01-01"},{"type":"A.B/c","name":"x","apiVersion":"2024-01-01"}]`,
	} {
		start := time.Now()
		d, err := bound(t, body, "")
		if err == nil {
			_, err = d.Outputs(nil)
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

func itoa(i int) string { return number(int64(i)).Text }
